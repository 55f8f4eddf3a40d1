// The knobs: each shows its value, what it was at the start if it was changed, and the server's words if it is refused.
import { h, replace, s } from "../dom.js";
import { value as format } from "../format.js";
import { icon } from "../icons.js";
import { linear, path as line } from "../scales.js";
import { isSame, valueAt } from "./document.js";

const NUM_STEPS = 200; // of a slider on a logarithmic scale
const MAX_LAYERS = 8;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const IN_GROUPS = /^[+-]?(?!0,)\d{1,3}(,\d{3})+$/; // 1,000
const MAYBE_IN_GROUPS = /^[+-]?(?!0\.)\d{1,3}\.\d{3}$/; // 1.000, which is a thousand in some languages

/**
 * Reads a number as it is typed: with a decimal comma, a minus sign (U+2212), or spaces or, in an integer, commas
 * between thousands. Returns the text where it is no number, or where it may be two: the service then refuses it.
 */
export function readNumber(typed, isInteger) {
  let text = typed.trim().replaceAll("\u2212", "-");
  if (/^[+-]?\d{1,3}(\s\d{3})+$/.test(text)) text = text.replace(/\s/g, "");
  if (!IN_GROUPS.test(text)) {
    if (isInteger && MAYBE_IN_GROUPS.test(text)) return text;
    text = text.replace(",", ".");
  } else if (isInteger) text = text.replaceAll(",", "");
  const n = NUMBER.test(text) ? Number(text) : NaN;
  const isExact = Number.isFinite(n) && (Number.isSafeInteger(n) || !/^[+-]?\d+$/.test(text));
  return isExact ? n : typed.trim();
}

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

/**
 * A slider and a field for the exact number, which shows what it would read back. `toValue` and `toNumber` translate
 * where the number is not the value; `none` is the word for null, which the slider's right end means then.
 */
export function numberKnob(
  path,
  label,
  { min, max, log = false, step = 1, integer = false, toValue = (n) => n, toNumber = (v) => v, none = null },
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
    fill();
    on(path, none && range.value === range.max ? null : toValue(fromSlider(range.value)));
  });
  exact.addEventListener("change", () => {
    const typed = exact.value.trim();
    on(path, none && typed.toLowerCase() === none ? null : toValue(readNumber(typed, integer)));
  });
  return {
    path,
    ...own,
    show(v, before) {
      const n = typeof v === "string" ? v : toNumber(v);
      if (v === null && none) range.value = range.max;
      if (typeof n === "number") range.value = toSlider(n);
      if (document.activeElement !== exact) exact.value = v === null && none ? none : String(n);
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
            const width = readNumber(event.target.value, true) || 0;
            event.target.blur();
            on(path, width === 0 ? sizes.filter((_, j) => j !== i) : sizes.with(i, width));
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
