// A frame and its labels, laid over each other here, so that a change of view needs nothing from the server.

const plain = { colorSpaceConversion: "none", premultiplyAlpha: "none" }; // a level is a class, not a colour
const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const tint = document.createElement("canvas").getContext("2d");

function fit(context, width, height) {
  if (context.canvas.width !== width || context.canvas.height !== height) {
    context.canvas.width = width;
    context.canvas.height = height;
  }
}

/** The frame as a bitmap, and an integer a pixel whose lowest byte is the label. */
export async function decode(jpeg, mask) {
  const [frame, levels] = await Promise.all([createImageBitmap(jpeg), createImageBitmap(mask, plain)]);
  const { width, height } = levels;
  fit(scratch, width, height);
  scratch.drawImage(levels, 0, 0);
  levels.close();
  return { frame, width, height, labels: new Uint32Array(scratch.getImageData(0, 0, width, height).data.buffer) };
}

/** Label to colour as canvases keep them: alpha, blue, green, red from the highest byte on. */
export function colours(palette, hidden, opacity) {
  const table = new Uint32Array(256);
  palette.forEach((colour, label) => {
    if (label === 0 || hidden.has(label)) return;
    const value = parseInt(colour.slice(1), 16);
    const [red, green, blue] = [value >> 16, (value >> 8) & 255, value & 255];
    table[label] = ((Math.round(255 * opacity) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
  return table;
}

/** view: raw, overlay or mask. */
export function draw(canvas, { frame, width, height, labels }, view, table) {
  const context = canvas.getContext("2d");
  fit(context, width, height);
  if (view === "mask") context.fillRect(0, 0, width, height);
  else context.drawImage(frame, 0, 0);
  if (view === "raw") return;
  fit(tint, width, height);
  const image = tint.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = table[labels[i] & 255];
  tint.putImageData(image, 0, 0);
  context.drawImage(tint.canvas, 0, 0);
}
