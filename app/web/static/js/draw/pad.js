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
  let pen = null; // what draws: {id, kind, stroke}; no stroke: the next point begins one
  let isNew = false; // whether strokes were drawn that were not told yet
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
    if (isNew) on.change(strokes);
    isNew = false;
  });

  const point = (event) => {
    const box = pad.getBoundingClientRect();
    const x = (event.clientX - box.left - box.width / 2) / box.height + 0.5;
    return [x, (event.clientY - box.top) / box.height].map((v) => Math.round(v * 1e4) / 1e4);
  };
  const add = (points) => {
    if (!pen.stroke) strokes = [...strokes, (pen.stroke = [])];
    for (const each of points) if (pen.stroke.length < MAX_POINTS) pen.stroke.push(each);
    isNew = true;
    hint.hidden = true;
    soon();
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (pen) {
      // One pointer draws at a time: a second finger does nothing, and a pen takes over from the hand that came first.
      if (event.pointerType !== "pen" || pen.kind === "pen") return;
      strokes = strokes.filter((each) => each !== pen.stroke);
    }
    pad.setPointerCapture(event.pointerId);
    pen = { id: event.pointerId, kind: event.pointerType, stroke: null };
    add([point(event)]);
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pen?.id) return;
    const events = event.getCoalescedEvents?.() ?? [];
    add((events.length ? events : [event]).map(point));
  });
  const lift = (event) => {
    if (event.pointerId !== pen?.id) return;
    pen = null;
    requestAnimationFrame(on.end);
  };
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) pad.addEventListener(name, lift);
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
    /** Shows other strokes; `isHinting`: whether the pad invites to draw. A pen that is down begins a new stroke. */
    show(next, isHinting) {
      strokes = next;
      isNew = false;
      if (pen) pen.stroke = null;
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
