"use strict";
// Plots drawn when they come near the window, in the page's own ink; tables sorted by their heads.

const held = document.getElementById("figures");
const figures = held ? JSON.parse(held.textContent) : {};
const dark = matchMedia("(prefers-color-scheme: dark)");
const options = { responsive: true, displayModeBar: false }; // its buttons lie on the legend, and one uploads
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();

function draw(place) {
  const figure = figures[place.dataset.figure];
  figure.layout.font.color = ink();
  Plotly.newPlot(place, figure.data, figure.layout, options);
}

const places = [...document.querySelectorAll("[data-figure]")];
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((each) => each.isIntersecting)) {
    watcher.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "800px" });
places.forEach((place) => watcher.observe(place));
dark.addEventListener("change", () => {
  for (const place of places.filter((each) => each.data)) Plotly.relayout(place, { "font.color": ink() });
});

function value(row, column) {
  const text = row.cells[column].innerText.trim();
  const match = text.match(/^-?[\d.]+(?:e-?\d+)?(?: ([kMGT])?\S*)?/);
  if (!match) return text === "-" || text === "" ? Infinity : text;
  return parseFloat(text) * ({ k: 1e3, M: 1e6, G: 1e9, T: 1e12 }[match[1]] ?? 1);
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sort(head, column) {
  const body = head.closest("table").tBodies[0];
  const order = head.ariaSort === "ascending" ? -1 : 1;
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.ariaSort = order === 1 ? "ascending" : "descending";
  body.append(...[...body.rows].sort((a, b) => order * compare(value(a, column), value(b, column))));
}

let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const each of folded) each.open = true; // paper can't be clicked
});
addEventListener("afterprint", () => folded.forEach((each) => (each.open = false)));

for (const table of document.querySelectorAll("table:not(.prose)")) {
  if (table.tBodies[0].rows.length < 3) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(head, column));
    head.replaceChildren(button);
  });
}
