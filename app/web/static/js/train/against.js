// What a run changed: its settings against the last run's, the difference judged by noise, mistakes mended and made.
import { link } from "../address.js";
import { h } from "../dom.js";
import { difference, signed } from "../format.js";
import { numVal, standardError } from "../splits.js";

/** The standard error of the difference of two runs' val accuracies, in points; null: not known yet. */
function noiseOf(...runs) {
  const errors = runs.map((run) => {
    const n = numVal(run.config);
    return n === null ? null : standardError(run.best.val_accuracy, n);
  });
  return errors.includes(null) ? null : 100 * Math.hypot(...errors);
}

export function against(run, ghost, comparison) {
  if (!ghost) return h("p.small.faint", "Train once more: the last run stays behind the new one.");
  const changed = difference(run.config, ghost.config);
  const chips = h(
    ".chips",
    changed.length
      ? changed.map((d) => h("span.chip.accent", `${d.label} `, h("b", `${d.was ?? "–"} → ${d.value}`)))
      : h("span.chip", "the same settings"),
  );
  if (!run.best || !ghost.best) return h(".versus", chips);
  const points = (run.best.val_accuracy - ghost.best.val_accuracy) * 100;
  const noise = noiseOf(run, ghost);
  return h(
    ".versus",
    chips,
    h(
      "p.small.muted",
      h("b", { class: points < 0 ? "down" : "up" }, `${signed(points)} points`),
      " on val",
      noise !== null &&
        `: ${Math.abs(points) <= noise ? "within" : "beyond"} noise, which is ±${noise.toFixed(1)} for ${numVal(run.config)} images.`,
    ),
    comparison &&
      h(
        "dl.trio",
        trio("mended", comparison.fixed.length, "up"),
        trio("new", comparison.introduced.length, "down"),
        trio("as before", comparison.shared.length),
      ),
    h("a.small", { href: link("compare", { run: [run.id, ghost.id] }) }, "Compare the two"),
  );
}

const trio = (name, n, cls = "") => h("div", h("dt", name), h("dd", { class: cls }, String(n)));
