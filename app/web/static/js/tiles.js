// 8×8 pictures: digits, weights, evidence. A canvas of 8×8 real pixels, scaled up by CSS.
import { h } from "./dom.js";

const probe = document.createElement("i");
probe.hidden = true;
probe.style.setProperty("forced-color-adjust", "none"); // a picture keeps its colours where all others are forced
let palette = null;

/** A token's colour as [r, g, b], in the theme of the moment. */
function rgb(token) {
  document.body.append(probe);
  probe.style.color = `var(${token})`;
  const numbers = getComputedStyle(probe)
    .color.match(/[\d.]+/g)
    .slice(0, 3)
    .map(Number);
  probe.remove();
  return numbers;
}

function colours() {
  palette ??= Object.fromEntries(
    ["paper", "ink", "minus", "zero", "plus"].map((name) => [name, rgb(`--tile-${name}`)]),
  );
  return palette;
}

addEventListener("themechange", () => {
  palette = null;
  for (const canvas of document.querySelectorAll("canvas.tile")) canvas.paint?.();
});

const mix = (a, b, t) => [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];

/** Ink on paper. `pixels`: 64 numbers 0–16. */
export function digitTile(pixels, label) {
  return tile(pixels, label, (v) => mix(colours().paper, colours().ink, Math.min(1, v / 16)));
}

/** Blue below zero, orange above; `limit` is what the strongest colour stands for. */
export function weightTile(values, limit, label) {
  return tile(
    values,
    label,
    (v, canvas) => {
      const t = Math.max(-1, Math.min(1, v / canvas.limit));
      return mix(colours().zero, t < 0 ? colours().minus : colours().plus, Math.abs(t) ** 0.8);
    },
    limit,
  );
}

function tile(values, label, colour, limit) {
  const canvas = h("canvas.tile", {
    width: 8,
    height: 8,
    ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }),
  });
  canvas.limit = limit;
  canvas.values = values;
  canvas.paint = () => {
    const image = new ImageData(8, 8);
    canvas.values.forEach((v, i) => image.data.set([...colour(v, canvas), 255], i * 4));
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  canvas.show = (next, nextLimit = canvas.limit) => {
    canvas.values = next;
    canvas.limit = nextLimit;
    canvas.paint();
  };
  canvas.paint();
  return canvas;
}

/** The strongest weight but for a few, so that one outlier does not bleach the rest. */
export function limitOf(units) {
  const all = units
    .flat()
    .map(Math.abs)
    .sort((a, b) => a - b);
  return all[Math.floor(all.length * 0.995)] || 1;
}

/** Pixels as they stand in an address: a character each, 0–9 and a–g; what is missing or no such character is 0. */
export const unpack = (text) => Array.from({ length: 64 }, (_, i) => parseInt(text[i], 17) || 0);
export const pack = (pixels) => pixels.map((p) => Math.round(p).toString(17)).join("");

/** 64 pixels as 8 rows of 8, as the API takes them. */
export const rowsOf = (pixels) => Array.from({ length: 8 }, (_, y) => pixels.slice(y * 8, y * 8 + 8));
