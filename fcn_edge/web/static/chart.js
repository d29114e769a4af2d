// The classes' parts of the picture over the last minute, one on the other; their names stand at the right.

const SECONDS = 60;
const STEP = 250; // ms between two points
const TOPS = [0.05, 0.1, 0.25, 0.5, 1];
const GUTTER = 84; // px for names

export class History {
  points = [];

  /** shares: class name to part of the picture. */
  add(shares) {
    const now = performance.now();
    if (this.points.length && now - this.points.at(-1).at < STEP) return false;
    this.points.push({ at: now, shares });
    while (now - this.points[0].at > 1000 * SECONDS) this.points.shift();
    return true;
  }
}

/** classes: [{ name, colour }], the lowest first. */
export function plot(canvas, points, classes) {
  const scale = devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());

  const sums = points.map((point) => classes.reduce((sum, each) => sum + (point.shares[each.name] ?? 0), 0));
  const top = TOPS.find((each) => each >= Math.max(0, ...sums)) ?? 1;
  const right = width - GUTTER;
  const x = (point) => right * (1 - (performance.now() - point.at) / (1000 * SECONDS));
  const y = (share) => height - 1 - (share / top) * (height - 14);

  context.font = "11px system-ui, sans-serif";
  context.strokeStyle = line;
  context.strokeRect(0.5, y(top), right, height - 0.5 - y(top));
  context.fillStyle = ink;
  context.fillText(`${100 * top} %`, 0, 10);
  let below = points.map(() => 0);
  let lowest = Infinity; // y of the name before
  for (const { name, colour } of classes) {
    const above = points.map((point, i) => below[i] + (point.shares[name] ?? 0));
    if (points.length && above.some((share, i) => share > below[i])) {
      context.beginPath();
      points.forEach((point, i) => context.lineTo(x(point), y(above[i])));
      for (let i = points.length - 1; i >= 0; i--) context.lineTo(x(points[i]), y(below[i]));
      context.closePath();
      context.fillStyle = colour;
      context.fill();
      context.strokeStyle = ink; // some colours are as dark, or as light, as the page
      context.lineWidth = 0.75;
      context.stroke();
      const share = above.at(-1) - below.at(-1);
      const middle = y(below.at(-1) + share / 2) + 4;
      if (share > 0.002 && middle < lowest - 11) {
        context.fillStyle = ink;
        context.fillText(name, right + 4, Math.min(Math.max(10, middle), height - 3), GUTTER - 4);
        lowest = middle;
      }
    }
    below = above;
  }
}
