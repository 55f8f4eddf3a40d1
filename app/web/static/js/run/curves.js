// The charts of one run: accuracy, loss, and each layer's gradient norm, with one cursor.
import { setState } from "../address.js";
import { h, replace } from "../dom.js";
import { int, pct, short } from "../format.js";
import { Cursor, legend, lineChart } from "../linechart.js";

const LAYERS = ["c1", "c2", "c3", "c4", "c5", "c6"];
const SCALES = { errors: "Errors", top: "90–100", all: "0–100" };
export const ERRORS = { errors: true, domain: [0.05, 0.9965] };
const DOMAINS = { errors: ERRORS, top: { domain: [0.9, 1] }, all: { domain: [0, 1] } };

export const percent = (v, isExact) => pct(v, isExact ? 2 : Math.round(v * 1000) % 10 ? 1 : 0);

/** Metrics as columns: {epoch: […], val_loss: […], …}. */
export function columns(rows) {
  const names = Object.keys(rows[0] ?? { epoch: 0, val_accuracy: 0, val_loss: 0 });
  return Object.fromEntries(names.map((name) => [name, rows.map((row) => row[name])]));
}

function lines(m, seen, train, val) {
  return [
    { name: "train as seen, dropout on", cls: "seen", thin: true, xs: m.epoch, ys: m[seen] ?? [] },
    { name: "train, dropout off", cls: "train", dashed: true, xs: m.epoch, ys: m[train] ?? [] },
    { name: "val", cls: "val", xs: m.epoch, ys: m[val] ?? [] },
  ];
}

/** Says which epochs are shown, with a way back to all. */
export const rangeChip = ([lo, hi], onzoom) => [
  ` ${int(lo)} to ${int(hi)} `,
  h("button.chip.line", { onclick: () => onzoom(null) }, "all epochs"),
];

/**
 * Makes the cards; `update(run, rows, range)` draws them anew, `range` being the epochs that are shown, null for all.
 *
 * @param {(range: [number, number] | null) => void} onzoom told which epochs are wanted
 */
export function makeCurves(initialScale, onzoom) {
  const cursor = new Cursor();
  let scale = initialScale in SCALES ? initialScale : "errors";
  const accuracyOf = () => ({ ...DOMAINS[scale], format: percent, label: "accuracy" });
  const accuracy = lineChart({
    cursor,
    height: 232,
    series: [],
    y: accuracyOf(),
    summary: "Accuracy over epochs",
    onzoom,
  });
  const loss = lineChart({
    cursor,
    height: 232,
    series: [],
    y: { log: true, domain: "fit", format: short, label: "loss" },
    summary: "Loss over epochs",
    onzoom,
  });
  const gradients = lineChart({
    cursor,
    height: 196,
    right: 56,
    series: [],
    y: { log: true, domain: "fit", format: short, label: "gradient norm" },
    summary: "Gradient norm of each layer over epochs",
    onzoom,
  });
  const note = h("span.note", { title: "Drag along a chart, click twice, or press + and − to choose epochs" });
  const buttons = Object.entries(SCALES).map(([name, text]) =>
    h(
      "button",
      {
        value: name,
        "aria-pressed": String(scale === name),
        onclick: () => {
          scale = name;
          setState({ scale: name === "errors" ? null : name });
          for (const each of buttons) each.setAttribute("aria-pressed", String(each.value === name));
          accuracy.update({ y: accuracyOf() });
        },
      },
      text,
    ),
  );

  function update(run, rows, zoom) {
    const m = columns(rows);
    const best = run.best;
    const range = { xDomain: zoom ?? [0, Math.max(1, m.epoch.at(-1) ?? run.progress.epochs)] };
    const epochs = zoom ? Math.min(zoom[1], run.progress.epoch) - zoom[0] + 1 : run.progress.epoch;
    const isThin = rows.length && rows.length < epochs;
    replace(
      note,
      isThin ? `${int(rows.length)} of ${int(epochs)} epochs` : "",
      zoom && rangeChip(zoom, onzoom),
    );
    accuracy.update({
      ...range,
      series: lines(m, "train_accuracy", "train_eval_accuracy", "val_accuracy"),
      marks: best ? [{ x: best.epoch, y: best.val_accuracy }] : [],
    });
    loss.update({
      ...range,
      series: lines(m, "train_loss", "train_eval_loss", "val_loss"),
      marks: best ? [{ x: best.epoch, y: best.val_loss }] : [],
    });
    const norms = rows[0]?.gradient_norms?.map((_, layer) => rows.map((row) => row.gradient_norms[layer])) ?? [];
    gradients.update({
      ...range,
      series: norms.map((ys, layer) => ({
        name: `layer ${layer + 1}`,
        label: norms.length <= 4 ? `layer ${layer + 1}` : null,
        cls: LAYERS[layer % 6],
        xs: m.epoch,
        ys,
        thin: true,
      })),
    });
    if (best)
      accuracy.setAttribute(
        "aria-label",
        `Accuracy over epochs: val is best at epoch ${best.epoch}, ${pct(best.val_accuracy)}.`,
      );
    if (best) loss.setAttribute("aria-label", `Loss over epochs: val ${short(best.val_loss)} at epoch ${best.epoch}.`);
  }
  return {
    update,
    gradients,
    accuracy: h(
      "section.card.a-acc",
      h(
        "header",
        h("h2", "Accuracy"),
        note,
        h("span.end", h(".seg", { role: "group", "aria-label": "Scale of accuracy" }, buttons)),
      ),
      h(".body", accuracy),
    ),
    loss: h(
      "section.card.a-loss",
      h(
        "header",
        h("h2", "Loss"),
        h("span.note", "cross-entropy, logarithmic"),
        h("span.end", legend(["val", "val"], ["train", "train", true], ["seen", "as seen"])),
      ),
      h(".body", loss),
    ),
  };
}
