// The list of saved models: accuracy with its standard error, and which are within noise of the champion.
import { act } from "../acts.js";
import { link } from "../address.js";
import { h, s } from "../dom.js";
import { int, pct, seconds, short } from "../format.js";
import { icon } from "../icons.js";
import { guard } from "../keys.js";
import { errors } from "../scales.js";
import { numVal, standardError } from "../splits.js";

const RANGE = [0.9, 0.9985];

const errorOf = ({ val_accuracy: p, config }) => standardError(p, numVal(config));
/** From which val accuracy on a model is no worse than the champion but for noise. */
const noiseFloor = (champion, model) =>
  champion.val_accuracy -
  Math.hypot(errorOf(champion), standardError(champion.val_accuracy, numVal(model.config))) -
  0.0001;

function interval(p, e, floor) {
  const x = errors(RANGE, [4, 156]);
  const clamp = (v) => Math.max(RANGE[0], Math.min(RANGE[1], v));
  return s(
    "svg",
    { width: 160, height: 24, viewBox: "0 0 160 24", "aria-hidden": "true" },
    s("rect", {
      x: x(clamp(floor)),
      y: 0,
      width: Math.max(0, x(RANGE[1]) - x(clamp(floor))),
      height: 24,
      class: "noiseband",
    }),
    s("line", {
      x1: x(clamp(p - e)),
      x2: x(clamp(p + e)),
      y1: 12,
      y2: 12,
      class: "s-c1",
      "stroke-width": 2,
      "stroke-linecap": "round",
    }),
    s("circle", { cx: x(clamp(p)), cy: 12, r: 4, class: "f-c1 dot" }),
  );
}

const COLUMNS = [
  ["Model", ""],
  [h("span.sr", "within noise?"), ""],
  ["Val accuracy", "num"],
  ["± standard error", "wide wider"],
  ["Shifted", "num wide"],
  ["Val loss", "num wide"],
  ["Parameters", "num wide"],
  ["Trained in", "num wide wider"],
  [h("span.sr", "what to do"), ""],
];

/** @param {object} on challenge(model), pin(model) */
export function boardTable(models, champion, challenger, on) {
  const row = (each) => {
    const isKnown = numVal(champion.config) && numVal(each.config);
    const floor = isKnown ? noiseFloor(champion, each) : champion.val_accuracy;
    const isChampion = each.run_id === champion.run_id;
    const name = each.name || "unnamed run";
    return h(
      "tr",
      { "aria-selected": String(each.run_id === challenger) },
      h(
        "td",
        h(
          ".runname",
          h("span.star", { "aria-hidden": "true" }, isChampion ? "★" : ""),
          h("a", { href: link(`runs/${each.run_id}`), dir: "auto" }, name),
          each.model_kind !== "mlp" && h("span.chip", each.model_kind === "random_forest" ? "forest" : each.model_kind),
        ),
      ),
      h(
        "td.small",
        isChampion ? h("span.faint", "answers") : each.val_accuracy >= floor ? h("span.chip.good", "within noise") : "",
      ),
      h("td.num", h("b.acc", pct(each.val_accuracy, 2))),
      h("td.wide.wider", isKnown ? interval(each.val_accuracy, errorOf(each), floor) : ""),
      h("td.num.muted.wide", each.shifted_accuracy == null ? "–" : pct(each.shifted_accuracy, 1)),
      h("td.num.muted.wide", short(each.val_loss)),
      h("td.num.muted.wide", int(each.num_parameters)),
      h("td.num.muted.wide.wider", seconds(each.training_seconds)),
      h(
        "td.rowacts",
        !isChampion && [
          h(
            "button.btn.ghost",
            { onclick: () => on.challenge(each), "aria-label": `Challenge with ${name}` },
            "Challenge",
          ),
          guard(act(h("button.btn.ghost.icon", { "aria-label": `Pin ${name}` }, icon("pin")), () => on.pin(each))),
        ],
      ),
    );
  };
  return h(
    "table.table",
    h(
      "thead",
      h(
        "tr",
        COLUMNS.map(([name, cls]) =>
          h("th", { scope: "col", class: cls }, name instanceof Node ? name.cloneNode(true) : name),
        ),
      ),
    ),
    h("tbody", models.map(row)),
  );
}
