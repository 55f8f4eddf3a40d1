// The knobs: each shows its value, what it was at the start if it was changed, and the server's words if it is refused.
import { h, replace, s } from "../dom.js";
import { short, value as format } from "../format.js";
import { icon } from "../icons.js";
import { linear, path as line } from "../scales.js";
import { isSame, valueAt } from "./document.js";

const NUM_STEPS = 200; // of a slider on a logarithmic scale
const MAX_LAYERS = 8;

/** A frame around a control: label, "was …", error. */
function frame(path, label, control) {
  const was = h("span.was");
  const error = h("span.error", { role: "alert", hidden: true });
  const root = h(".field", { dataset: { path } }, h(".label", h("span", label), was), control, error);
  return {
    root,
    mark(before, now) {
      const isChanged = !isSame(before, now);
      root.classList.toggle("changed", isChanged);
      was.textContent = isChanged ? `was ${before === undefined ? "–" : format(path, before)}` : "";
    },
    refuse(text) {
      error.hidden = !text;
      error.textContent = text ?? "";
      for (const input of root.querySelectorAll("input.input")) {
        if (text) input.setAttribute("aria-invalid", "true");
        else input.removeAttribute("aria-invalid");
      }
    },
  };
}

/** A slider and a field for the exact number. `toValue` and `toNumber` translate where the number is not the value. */
export function numberKnob(
  path,
  label,
  { min, max, log = false, step = 1, integer = false, toValue = (n) => n, toNumber = (v) => v, text = short },
  on,
) {
  const toSlider = (n) => (log ? (Math.log(Math.max(n, min) / min) / Math.log(max / min)) * NUM_STEPS : n);
  const fromSlider = (at) => {
    if (!log) return Number(at);
    const n = min * (max / min) ** (at / NUM_STEPS);
    return integer ? Math.round(n) : Number(n.toPrecision(2));
  };
  const range = h("input", {
    type: "range",
    min: log ? 0 : min,
    max: log ? NUM_STEPS : max,
    step: log ? 1 : step,
    "aria-label": label,
  });
  const exact = h("input.input", { inputmode: "decimal", "aria-label": `${label}, exactly` });
  const fill = () => range.style.setProperty("--at", `${((range.value - range.min) / (range.max - range.min)) * 100}%`);
  const own = frame(path, label, h(".slider", range, exact));
  range.addEventListener("input", () => {
    const n = fromSlider(range.value);
    exact.value = text(n);
    fill();
    on(path, toValue(n));
  });
  exact.addEventListener("change", () => {
    const typed = exact.value.trim().replace(",", ".");
    on(
      path,
      typed === "full" || typed === "none"
        ? null
        : Number.isFinite(Number(typed)) && typed
          ? toValue(Number(typed))
          : exact.value,
    );
  });
  return {
    path,
    ...own,
    show(v, before) {
      const n = toNumber(v);
      if (typeof n === "number") range.value = toSlider(n);
      if (document.activeElement !== exact)
        exact.value = v === null && n === undefined ? "full" : typeof n === "number" ? text(n) : String(n);
      fill();
      own.mark(before, v);
    },
  };
}

/** A choice of a few names; `toValue` translates where a name is not the value. */
export function segmentKnob(path, label, names, on, { picture, toValue = (key) => key } = {}) {
  const buttons = Object.entries(names).map(([key, text]) =>
    h(
      "button",
      { type: "button", role: "radio", value: key, onclick: () => on(path, toValue(key)) },
      picture?.(key),
      text,
    ),
  );
  const own = frame(
    path,
    label,
    h(".seg.fill", { role: "radiogroup", "aria-label": label, onkeydown: arrow }, buttons),
  );
  function arrow(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const next = buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length];
    if (!step || !next) return;
    event.preventDefault();
    next.focus();
    next.click();
  }
  return {
    path,
    ...own,
    show(v, before) {
      for (const button of buttons) {
        const isChosen = button.value === String(v);
        button.setAttribute("aria-checked", String(isChosen));
        button.tabIndex = isChosen ? 0 : -1;
      }
      own.mark(before, v);
    },
  };
}

export function layersKnob(path, label, on) {
  const net = h(".net");
  const own = frame(path, label, net);
  const arrow = () => h("span.faint", { "aria-hidden": "true" }, "›");
  return {
    path,
    ...own,
    show(sizes, before) {
      own.mark(before, sizes);
      const inputs = [...net.querySelectorAll(".size")];
      if (inputs.includes(document.activeElement) && inputs.length === sizes.length) return;
      const field = (n, i) =>
        h("input.input.size", {
          value: n,
          inputmode: "numeric",
          "aria-label": `Width of hidden layer ${i + 1}; 0 takes it out`,
          onchange: (event) => {
            const width = Math.round(Number(event.target.value)) || 0;
            event.target.blur();
            on(path, width > 0 ? sizes.with(i, width) : sizes.filter((_, j) => j !== i));
          },
        });
      replace(
        net,
        h("span.faint", "64"),
        sizes.map((n, i) => [arrow(), field(n, i)]),
        sizes.length < MAX_LAYERS &&
          h(
            "button.btn.icon.ghost.plus",
            { type: "button", "aria-label": "Add a layer", onclick: () => on(path, [...sizes, sizes.at(-1) ?? 24]) },
            icon("plus"),
          ),
        arrow(),
        h("span.faint", "10"),
      );
    },
  };
}

/**
 * Shows all knobs: the configuration as the server completed it, and what it was at the start. A knob of something that
 * the configuration does not have is hidden: Adam has no momentum.
 */
export function showKnobs(knobs, config, start) {
  for (const knob of knobs) {
    const now = valueAt(config, knob.path);
    knob.root.hidden = now === undefined;
    if (now !== undefined) knob.show(now, valueAt(start, knob.path) ?? null);
  }
}

/** An activation's curve, in small. */
export function curve(kind) {
  const f = {
    sigmoid: (x) => 2 / (1 + Math.exp(-1.6 * x)) - 1,
    tanh: (x) => Math.tanh(2 * x),
    relu: (x) => Math.max(-0.7, x < 0 ? -0.7 : x - 0.7),
  }[kind];
  const xs = Array.from({ length: 21 }, (_, i) => (i - 10) / 6);
  return s(
    "svg",
    { viewBox: "0 0 16 12", width: 16, height: 12, "aria-hidden": "true" },
    s("path", {
      d: line(xs, xs.map(f), linear([-1.7, 1.7], [1, 15]), linear([-1.1, 1.1], [11, 1])),
      fill: "none",
      stroke: "currentColor",
      "stroke-width": 1.5,
      "stroke-linecap": "round",
    }),
  );
}
