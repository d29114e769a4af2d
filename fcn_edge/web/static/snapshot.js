// One frame at its own size with all that belongs to it, to look at and to keep.

import { colours, decode, draw } from "./picture.js";

const dialog = document.getElementById("still");
const list = document.getElementById("downloads");

function offer(text, blob, name) {
  const link = document.createElement("a");
  link.className = "download";
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.textContent = text;
  const item = document.createElement("li");
  item.append(link);
  list.append(item);
}

dialog.addEventListener("close", () => {
  for (const link of list.querySelectorAll("a")) URL.revokeObjectURL(link.href);
  list.replaceChildren();
});

export async function snapshot(source, { view, palette, hidden, opacity }) {
  const response = await fetch(`/api/sources/${source}/snapshot`);
  if (!response.ok) throw new Error(await response.text());
  const parts = await response.formData();
  const result = JSON.parse(parts.get("result"));
  const canvas = dialog.querySelector("canvas");
  const shown = await decode(parts.get("frame"), parts.get("labels"));
  draw(canvas, shown, view, colours(palette, hidden, view === "mask" ? 1 : opacity));
  const seen = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  list.replaceChildren();
  offer("As seen, PNG", seen, `${result.name}-${view}.png`);
  offer("Frame, JPEG", parts.get("frame"), `${result.name}.jpg`);
  offer("Mask, PNG", parts.get("mask"), `${result.name}-mask.png`);
  offer("Figures, JSON", new Blob([JSON.stringify(result, null, 1)], { type: "application/json" }), `${result.name}.json`);
  if (!dialog.open) dialog.showModal();
}
