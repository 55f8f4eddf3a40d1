// Every trial's curve on a canvas: two thousand lines are no work; one that is lit is drawn over them.
import { h, replace, s } from "../dom.js";
import { int, pct } from "../format.js";
import { errors, linear } from "../scales.js";
import { colourOf, layer, onTheme, prepare, trace } from "./canvas.js";
import { axes } from "./scatter.js";

export function strands(curves, report, link) {
  const [base, over] = [layer(), layer()];
  const root = h(".chart.strands", { role: "img", "aria-label": "Val accuracy over epochs, a line for each trial" });
  const trials = (report.trials ?? [])
    .map((trial) => ({ ...trial, curve: curves[trial.run_id] }))
    .filter((trial) => trial.curve);
  const end = Math.max(1, ...trials.map((trial) => trial.curve.epoch.at(-1)));
  let scales = null;
  const line = (pencil, { curve }) => trace(pencil, curve.epoch.map(scales.x), curve.val_accuracy.map(scales.y));
  const draw = () => {
    const [width, height] = [root.clientWidth, 300];
    if (!width) return;
    scales = { x: linear([0, end], [44, width - 8], true), y: errors([0.05, 0.9965], [height - 24, 10]) };
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
    pencil.strokeStyle = colourOf(root, "--ghost");
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
    pencil.strokeStyle = colourOf(root, link.point === null ? "--val" : "--accent");
    pencil.lineWidth = 2;
    root.dataset.lit = shown;
    for (const trial of trials) if (trial.point_number === shown) line(pencil, trial);
  };
  new ResizeObserver(draw).observe(root);
  onTheme(root, draw);
  link.addEventListener("change", light);
  return root;
}
