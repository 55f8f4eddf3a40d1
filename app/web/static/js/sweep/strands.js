// Every trial's curve on a canvas: two thousand lines are no work; one that is lit is drawn over them.
import { h, replace, s } from "../dom.js";
import { int, pct } from "../format.js";
import { errors, linear } from "../scales.js";
import { axes } from "./scatter.js";

export function strands(curves, report, link) {
  const base = h("canvas");
  const over = h("canvas");
  const root = h(".chart.strands", { role: "img", "aria-label": "Val accuracy over epochs, a line for each trial" });
  const trials = (report.trials ?? [])
    .map((trial) => ({ ...trial, curve: curves[trial.run_id] }))
    .filter((trial) => trial.curve);
  const end = Math.max(1, ...trials.map((trial) => trial.curve.epoch.at(-1)));
  let scales = null;
  const line = (pencil, trial) => {
    pencil.beginPath();
    trial.curve.epoch.forEach((epoch, i) => pencil.lineTo(scales.x(epoch), scales.y(trial.curve.val_accuracy[i])));
    pencil.stroke();
  };
  const prepare = (canvas, width, height) => {
    const ratio = devicePixelRatio || 1;
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pencil = canvas.getContext("2d");
    pencil.scale(ratio, ratio);
    pencil.lineJoin = "round";
    return pencil;
  };
  const colour = (name) => {
    root.style.color = `var(${name})`;
    const found = getComputedStyle(root).color;
    root.style.color = "";
    return found;
  };
  const draw = () => {
    const [width, height] = [root.clientWidth, 300];
    if (!width) return;
    scales = { x: linear([0, end], [44, width - 8]), y: errors([0.05, 0.9965], [height - 24, 10]) };
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    axes(svg, scales.x, scales.y, {
      left: 44,
      right: 8,
      top: 10,
      bottom: 24,
      width,
      height,
      formatX: int,
      formatY: (v) => pct(v, v > 0.99 ? 1 : 0),
    });
    const pencil = prepare(base, width, height);
    pencil.strokeStyle = colour("--ghost");
    pencil.globalAlpha = Math.max(0.12, Math.min(0.55, 30 / trials.length));
    pencil.lineWidth = 1;
    for (const trial of trials) line(pencil, trial);
    replace(root, svg, base, over);
    light();
  };
  const light = () => {
    if (!scales) return;
    const pencil = prepare(over, root.clientWidth, 300);
    const shown = link.point ?? report.noise?.best_point;
    pencil.strokeStyle = colour(link.point === null ? "--val" : "--accent");
    pencil.lineWidth = 2;
    for (const trial of trials) if (trial.point_number === shown) line(pencil, trial);
  };
  new ResizeObserver(draw).observe(root);
  const redraw = () => (root.isConnected ? draw() : removeEventListener("themechange", redraw));
  addEventListener("themechange", redraw);
  link.addEventListener("change", light);
  return root;
}
