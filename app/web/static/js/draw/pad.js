// The pad: strokes as data, [[x, y], …] each, in units of the pad's height, painted anew whenever the pad's size
// changes.
import { h, onceAFrame } from "../dom.js";

const PEN = 0.11; // of the pad's height: the service draws strokes with such a pen too
const MAX_POINTS = 2000; // of a stroke

/**
 * @param {object} on change(strokes) while drawing, end() when the pen is lifted, file(file) for what is dropped
 */
export function makePad(on) {
  let strokes = [];
  const pad = h("canvas.pad", {
    role: "img",
    "aria-label": "Drawing area. Without a pointer, paint in the 8 by 8 grid.",
  });
  const hint = h(
    ".pad-hint",
    { "aria-hidden": "true" },
    h("span", "Draw a digit"),
    h("small", "mouse, finger or pen · or paste a picture"),
  );
  const root = h(".padwrap", h(".padgrid", { "aria-hidden": "true" }), pad, hint);
  const paint = () => paintStrokes(pad, strokes);
  const soon = onceAFrame(() => {
    paint();
    on.change(strokes);
  });

  const point = (event) => {
    const box = pad.getBoundingClientRect();
    const x = (event.clientX - box.left - box.width / 2) / box.height + 0.5;
    return [x, (event.clientY - box.top) / box.height].map((v) => Math.round(v * 1e4) / 1e4);
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pad.setPointerCapture(event.pointerId);
    strokes = [...strokes, [point(event)]];
    hint.hidden = true;
    soon();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!pad.hasPointerCapture(event.pointerId)) return;
    const stroke = strokes.at(-1);
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) if (stroke.length < MAX_POINTS) stroke.push(point(each));
    soon();
  });
  const lift = () => requestAnimationFrame(on.end);
  pad.addEventListener("pointerup", lift);
  pad.addEventListener("pointercancel", lift);
  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) on.file(event.dataTransfer.files[0]);
  });
  const observer = new ResizeObserver(paint);
  observer.observe(pad);
  addEventListener("themechange", paint);

  return {
    root,
    /** Shows other strokes; `isHinting`: whether the pad invites to draw. */
    show(next, isHinting) {
      strokes = next;
      hint.hidden = !isHinting;
      paint();
    },
    leave() {
      observer.disconnect();
      removeEventListener("themechange", paint);
    },
  };
}

function paintStrokes(pad, strokes) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [pad.clientWidth, pad.clientHeight].map((length) => Math.round(length * ratio));
  if (pad.width !== width || pad.height !== height) Object.assign(pad, { width, height });
  const pencil = pad.getContext("2d");
  pencil.clearRect(0, 0, width, height);
  pencil.strokeStyle = getComputedStyle(pad).color;
  pencil.lineWidth = height * PEN;
  pencil.lineCap = pencil.lineJoin = "round";
  const at = ([x, y]) => [width / 2 + (x - 0.5) * height, y * height];
  for (const stroke of strokes) paintStroke(pencil, stroke.map(at));
}

/** Draws through the middles between points, so that few points still make a curve. */
function paintStroke(pencil, points) {
  pencil.beginPath();
  const [x0, y0] = points[0];
  pencil.moveTo(x0, y0);
  if (points.length === 1) pencil.lineTo(x0 + 0.01, y0);
  for (let i = 1; i < points.length - 1; i++) {
    const [ax, ay] = points[i];
    const [bx, by] = points[i + 1];
    pencil.quadraticCurveTo(ax, ay, (ax + bx) / 2, (ay + by) / 2);
  }
  if (points.length > 1) pencil.lineTo(...points.at(-1));
  pencil.stroke();
}
