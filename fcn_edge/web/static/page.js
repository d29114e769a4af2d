// Asks for whatever is newer than what is shown, shows it, asks again: a slow line or a slow phone sees fewer pictures,
// never old ones. What the onlooker sets acts on the picture at hand.

import { History, plot } from "./chart.js";
import { colours, decode, draw } from "./picture.js";
import { snapshot } from "./snapshot.js";

const RETRY = [500, 1000, 2000, 5000]; // ms
const ANSWERS_WITHIN = 15000; // ms
const WORDS_EVERY = 5000; // ms between new words for a picture: faster ones can't be listened to
const WORTH_A_ROW = 0.001; // part of the picture

const by = (id) => document.getElementById(id);
const controls = by("controls");
const rows = [...document.querySelectorAll("#legend li")];
const pictures = new Map(
  [...document.querySelectorAll("figure[data-source]")].map((figure) => [
    figure.dataset.source,
    { figure, canvas: figure.querySelector("canvas"), number: 0, shown: null, history: new History(), told: -Infinity },
  ]),
);
const hidden = new Set(); // labels
let model = null;
let run = null;
let known = null; // the newest status

const settings = () => ({
  view: controls.elements.view.value,
  opacity: controls.elements.opacity.value / 100,
  palette: model.palette,
  hidden,
});
const chosen = () => document.querySelector("input[name=source]:checked")?.value ?? pictures.keys().next().value;
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function say(text, bad = false) {
  const state = by("state");
  if (state.textContent === text) return;
  state.textContent = text;
  state.classList.toggle("bad", bad);
}

function paint(picture) {
  if (!picture.shown || !model) return;
  const { view, opacity, palette } = settings();
  draw(picture.canvas, picture.shown, view, colours(palette, hidden, view === "mask" ? 1 : opacity));
}

function repaint() {
  pictures.forEach(paint);
  chart();
}

function chart() {
  const classes = model.classes.map((name, label) => ({ name, colour: model.palette[label], label }));
  plot(by("chart"), pictures.get(chosen()).history.points, classes.filter((each) => each.label && !hidden.has(each.label)));
}

async function take(parts) {
  const status = JSON.parse(parts.get("status"));
  if (run !== null && run !== status.run) location.reload(); // another run, perhaps another model
  run = status.run;
  for (const [id, picture] of pictures) {
    const about = parts.get(`result-${id}`);
    if (!about) continue;
    const result = JSON.parse(about);
    const shown = await decode(parts.get(`frame-${id}`), parts.get(`mask-${id}`));
    picture.shown?.frame.close();
    Object.assign(picture, { shown, number: result.number });
    paint(picture);
    describe(picture, result.classes);
    if (picture.history.add(result.classes) && id === chosen()) {
      legend(result.classes);
      chart();
    }
  }
  known = status;
  figures();
}

function describe(picture, shares) {
  if (performance.now() - picture.told < WORDS_EVERY) return;
  picture.told = performance.now();
  const there = Object.entries(shares).filter(([name, share]) => name !== model.classes[0] && share >= WORTH_A_ROW);
  const words = there.sort((a, b) => b[1] - a[1]).map(([name, share]) => `${name} ${percent(share)}`);
  picture.canvas.setAttribute("aria-label", words.join(", ") || "Background alone");
  if (picture.figure.dataset.source === chosen()) by("chart").setAttribute("aria-label", `Areas of the classes over the last minute; now ${words.join(", ") || "none"}`);
}

function legend(shares) {
  for (const row of rows) {
    const share = shares[model.classes[row.dataset.class]] ?? 0;
    if (row.hidden && share < WORTH_A_ROW) continue;
    row.hidden = false;
    row.querySelector(".share").textContent = percent(share);
    row.querySelector("b").style.width = `${100 * share}%`;
  }
  by("nothing").hidden = rows.some((row) => !row.hidden);
}

function figures() {
  if (!known) return;
  for (const source of known.sources) {
    const { figure } = pictures.get(String(source.id));
    const gone = source.state === "lost" || source.state === "standing still";
    figure.classList.toggle("gone", gone);
    const notice = figure.querySelector(".lost");
    notice.hidden = !gone;
    put(notice, source.state === "lost" ? `No signal for ${Math.round(source.lost_for)} s` : "No result comes");
    notice.title = source.trouble ?? "";
    figure.querySelector(".rate").textContent = `${source.fps.toFixed(1)} fps`;
  }
  const source = known.sources.find((each) => String(each.id) === chosen());
  const texts = {
    fps: source.fps.toFixed(1),
    frames: source.total ? `${source.frames} of ${source.total}` : source.frames,
    dropped: source.dropped,
    late: source.outputs.reduce((sum, each) => sum + each.lost, 0),
    age: source.age_ms ? `${source.age_ms.p50.toFixed(0)} ms` : "-",
    reconnects: source.reconnects,
    name: source.name,
    picture: source.size ? `${source.size[1]} x ${source.size[0]}${source.rate ? `, ${source.rate.toFixed(2)} a second` : ""}` : "-",
    network: source.network_sizes.map(([height, width]) => `${width} x ${height}`).join(", ") || "-",
  };
  for (const place of document.querySelectorAll("[data-key]")) put(place, texts[place.dataset.key]);
  stages(source);
  problems(source);
  const lost = known.sources.filter((each) => each.state === "lost" || each.state === "standing still");
  const names = pictures.size > 1 ? `: ${lost.map((each) => each.name).join(", ")}` : "";
  if (known.ended) say("The run has ended");
  else if (known.sources.every((each) => each.state === "ended")) say("Everything was shown");
  else if (lost.length) say(`No signal${names}`, true);
  else say(known.sources.some((each) => each.state === "starting") ? "Waiting for the first picture" : "Live");
}

function put(place, text) {
  if (place.textContent !== String(text)) place.textContent = text;
}

function stages(source) {
  const body = by("stages");
  const wanted = Object.entries(source.stages_ms);
  while (body.rows.length > wanted.length) body.deleteRow(-1);
  wanted.forEach(([name, taken], i) => {
    const row = body.rows[i] ?? body.insertRow();
    if (!row.cells.length) {
      row.append(Object.assign(document.createElement("th"), { scope: "row" }));
      for (let n = 0; n < 3; n++) row.insertCell();
    }
    put(row.cells[0], name);
    ["p50", "p95", "p99"].forEach((key, n) => put(row.cells[n + 1], taken[key]?.toFixed(1) ?? "-"));
  });
}

function problems(source) {
  const lines = [...source.problems, ...(source.trouble ? [source.trouble] : [])];
  const list = by("problems");
  if (list.innerText === lines.join("\n")) return;
  list.replaceChildren(...lines.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function follow() {
  let failures = 0;
  for (;;) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    try {
      if (!model) {
        ({ model } = await (await ask("/api/status")).json());
        for (const row of rows) row.querySelector("i").style.background = model.palette[row.dataset.class];
      }
      const have = [...pictures].map(([id, picture]) => `${id}:${picture.number}`).join(",");
      await take(await (await ask(`/api/live?have=${have}`)).formData());
      failures = 0;
      if (known.ended) await pause(RETRY[2]);
    } catch (error) {
      if (known?.ended) say("The run has ended");
      else say("No connection to fcn-edge; trying again", true);
      await pause(RETRY[Math.min(failures++, RETRY.length - 1)]);
    }
  }
}

async function ask(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(ANSWERS_WITHIN) });
  if (response.status === 401) location.reload(); // the token is another one now: the door asks for it
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

async function keep() {
  try {
    await snapshot(chosen(), settings());
  } catch (error) {
    say("No snapshot could be had", true);
  }
}

function enlarge() {
  if (document.fullscreenElement) document.exitFullscreen();
  else pictures.get(chosen()).figure.querySelector(".picture").requestFullscreen?.();
}

function fade(by) {
  const slider = controls.elements.opacity;
  slider.valueAsNumber += by * slider.step;
  set();
}

function set() {
  by("opacity_shown").textContent = `${controls.elements.opacity.value} %`;
  if (model) repaint();
}

function filter(show) {
  for (const row of rows) {
    row.querySelector("input").checked = show;
    hidden[show ? "delete" : "add"](Number(row.dataset.class));
  }
  if (model) repaint();
}

const keys = {
  1: () => (controls.elements.view.value = "raw"),
  2: () => (controls.elements.view.value = "overlay"),
  3: () => (controls.elements.view.value = "mask"),
  ArrowUp: () => fade(1),
  ArrowDown: () => fade(-1),
  s: keep,
  f: enlarge,
};

for (const [id, picture] of pictures) {
  picture.figure.querySelector(".picture").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in keys)) return;
    event.preventDefault();
    const choice = document.querySelector(`input[name=source][value="${id}"]`);
    if (choice) choice.checked = true;
    keys[event.key]();
    set();
  });
}
controls.addEventListener("input", set);
controls.addEventListener("submit", (event) => event.preventDefault());
by("pictures").addEventListener("change", () => {
  legend(pictures.get(chosen()).history.points.at(-1)?.shares ?? {});
  figures();
  if (model) chart();
});
by("legend").addEventListener("change", (event) => {
  hidden[event.target.checked ? "delete" : "add"](Number(event.target.closest("li").dataset.class));
  repaint();
});
by("all").addEventListener("click", () => filter(true));
by("none").addEventListener("click", () => filter(false));
by("snapshot").addEventListener("click", keep);
by("fullscreen").addEventListener("click", enlarge);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => model && chart());
addEventListener("resize", () => model && chart());
follow();
