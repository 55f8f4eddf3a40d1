// The form: where one starts from, the knobs, what it would cost, and the button.
import * as api from "../api.js";
import { h, replace } from "../dom.js";
import { int, LONG, seconds, value } from "../format.js";
import { Problem } from "../http.js";
import { icon } from "../icons.js";
import { guard } from "../keys.js";
import { nameOf, pathOf, toDocument, valueAt, isSame } from "./document.js";
import { curve, layersKnob, numberKnob, segmentKnob, showKnobs } from "./knobs.js";

const DEBOUNCE_MS = 150;
const TRAIN_IMAGES = 1257;

function makeKnobs(on) {
  const copies = (n) => (n ? { kind: "affine_elastic", copies: n } : null);
  return {
    first: [
      layersKnob("model.hidden_sizes", "Hidden layers", on),
      segmentKnob("model.activation", "Activation", { sigmoid: "sigmoid", tanh: "tanh", relu: "relu" }, on, {
        picture: curve,
      }),
      numberKnob("model.dropout", "Dropout", { min: 0, max: 0.9, step: 0.05 }, on),
      numberKnob("training.optimizer.learning_rate", "Learning rate", { min: 0.0001, max: 10, log: true }, on),
      numberKnob(
        "training.batch_size",
        "Batch size",
        {
          min: 1,
          max: TRAIN_IMAGES,
          log: true,
          integer: true,
          none: "full",
        },
        on,
      ),
      numberKnob("training.epochs", "Epochs", { min: 1, max: 10_000, log: true, integer: true }, on),
      numberKnob(
        "training.augmentation",
        "Warped copies of each image",
        { min: 0, max: 256, step: 1, integer: true, toValue: copies, toNumber: (v) => v?.copies ?? 0 },
        on,
      ),
    ],
    two: [
      segmentKnob("training.optimizer.kind", "Optimizer", { sgd: "SGD", adam: "Adam" }, on),
      segmentKnob("scaling", "Pixels", { byte: "1/255", unit: "1/16" }, on),
    ],
    more: [
      numberKnob("seed", "Seed", { min: 0, max: 100, integer: true }, on),
      numberKnob("training.optimizer.momentum", "Momentum", { min: 0, max: 0.99, step: 0.01 }, on),
      segmentKnob("training.optimizer.nesterov", "Nesterov's momentum", { false: "off", true: "on" }, on, {
        toValue: (key) => key === "true",
      }),
      segmentKnob("training.schedule.kind", "Schedule of the rate", { constant: "constant", cosine: "cosine" }, on),
      numberKnob(
        "training.schedule.warmup_steps",
        "Warm-up, steps",
        { min: 0, max: 1000, step: 10, integer: true },
        on,
      ),
      numberKnob("training.optimizer.weight_decay", "Weight decay", { min: 0, max: 0.1, step: 0.001 }, on),
      numberKnob(
        "training.early_stopping",
        "Early stopping, epochs without gain",
        {
          min: 0,
          max: 200,
          integer: true,
          toValue: (n) => (n ? { patience: n } : null),
          toNumber: (v) => v?.patience ?? 0,
        },
        on,
      ),
      segmentKnob("training.keep", "Weights to save", { best: "best epoch", last: "last epoch" }, on),
    ],
  };
}

/**
 * @param {object} start {preset, from}: where one starts from; `changes`: a Map of changed knobs
 * @param {object | null} fromRun a run that one may start from; `missing`: what is not as the address asks for, in words
 * @param {object} on change(start, changes), train(document)
 */
export function makeForm(start, changes, presets, fromRun, missing, on) {
  let startConfig = null;
  let config = null;
  let timer = null;
  let asking = null;
  let isBusy = false; // whether a submission is on its way
  let isRefused = false; // whether the service would refuse one
  const knobs = makeKnobs(turn);
  const all = [...knobs.first, ...knobs.two, ...knobs.more];
  const about = h("p.small.faint.preset");
  const lack = h("p.small.down", { role: "alert", hidden: !missing }, missing);
  const general = h("p.small.down", { role: "alert", hidden: true });
  const plan = h(".plan");
  const button = guard(h("button.btn.primary.large.start", {}, icon("play"), "Train", h("kbd", "⏎")));
  const from = h(
    "select.input.select",
    {
      "aria-label": "Start from",
      onchange: () => {
        start = from.value === "run" ? { from: fromRun.id } : { preset: from.value };
        changes.clear();
        lack.hidden = true;
        reset();
      },
    },
    fromRun && h("option", { value: "run", selected: Boolean(start.from) }, fromRun.name || "unnamed run"),
    presets
      .filter((each) => each.kind === "run" && each.config.model.kind === "mlp")
      .map((each) => h("option", { value: each.name, selected: each.name === start.preset }, each.name)),
  );

  /** Takes what a knob was turned to; back to the start's value is no change. */
  function turn(path, value) {
    if (path === "training.optimizer.kind")
      for (const each of [...changes.keys()])
        if (each.startsWith("training.optimizer.") && each !== "training.optimizer.learning_rate") changes.delete(each);
    if (path === "training.schedule.kind") changes.delete("training.schedule.warmup_steps");
    if (isSame(value, valueAt(startConfig, path) ?? null)) changes.delete(path);
    else changes.set(path, value);
    on.change(start, changes);
    const shown = structuredClone(config);
    setAt(shown, path, value);
    config = shown;
    showKnobs(all, config, startConfig);
    clearTimeout(timer);
    timer = setTimeout(ask, DEBOUNCE_MS);
  }
  function reset() {
    startConfig = start.from ? fromRun.config : presets.find((each) => each.name === start.preset).config;
    config = structuredClone(startConfig);
    for (const [path, each] of changes) setAt(config, path, each);
    showKnobs(all, config, startConfig);
    replace(
      about,
      start.from
        ? "Everything as in this run, unless you turn a knob."
        : presets.find((each) => each.name === start.preset)?.description,
    );
    on.change(start, changes);
    ask();
  }
  /** Asks what that would train; a refusal lands at its field, in the server's words. */
  async function ask() {
    asking?.abort();
    asking = new AbortController();
    try {
      const found = await api.plan(toDocument(start, changes), asking.signal);
      config = found.config;
      showErrors([]);
      showPlan(found);
    } catch (error) {
      if (error.name === "AbortError") return;
      showErrors(error.errors?.length ? error.errors : [{ pointer: "", detail: error.message }]);
      if (!(error instanceof Problem)) setState({ isRefused: false }); // not asked is not refused
    }
    showKnobs(all, config, startConfig);
  }
  function showErrors(errors) {
    const rest = [];
    for (const knob of all) knob.refuse(null);
    for (const { pointer, detail } of errors) {
      const path = pathOf(pointer);
      const knob = all.find((each) => path === each.path || path.startsWith(`${each.path}.`));
      if (knob) {
        knob.refuse(detail);
        more.open ||= knobs.more.includes(knob);
      } else rest.push(detail);
    }
    general.hidden = !rest.length;
    general.textContent = rest.join(" ");
    setState({ isRefused: errors.length > 0 });
    if (errors.length) replace(plan);
  }
  function setState(next) {
    ({ isBusy, isRefused } = { isBusy, isRefused, ...next });
    button.disabled = isBusy || isRefused;
  }
  function showPlan({ num_parameters: parameters, num_steps: steps, estimated_seconds: time, hint }) {
    replace(
      plan,
      h("span", h("b", int(parameters)), " parameters"),
      h("span", h("b", int(steps)), " steps"),
      time != null && h("span", "about ", h("b", seconds(time))),
      hint && h("span.down", hint),
    );
  }
  const more = h(
    "details.more",
    h("summary", "Seed, momentum, schedule …"),
    h(
      ".morebody",
      knobs.more.map((knob) => knob.root),
    ),
  );
  const root = h(
    "form.card.knobs",
    {
      "aria-label": "Settings",
      onsubmit: (event) => {
        event.preventDefault();
        train();
      },
    },
    h(".field", h(".label", h("span", "Start from")), h(".selectwrap", from)),
    lack,
    about,
    h("hr"),
    knobs.first.map((knob) => knob.root),
    h(
      ".two",
      knobs.two.map((knob) => knob.root),
    ),
    more,
    h(".go", general, plan, h(".goes", button)),
  );
  function train() {
    if (button.disabled || button.getAttribute("aria-disabled")) return;
    const name = nameOf(
      start.from ? fromRun.name || "run" : start.preset,
      changes,
      (path, v) => `${LONG[path] ?? path.split(".").at(-1)} ${value(path, v)}`,
    );
    on.train(toDocument(start, changes, name));
  }
  return {
    root,
    reset,
    train,
    askAgain: ask,
    setBusy: (next) => setState({ isBusy: next }),
    showErrors,
    leave() {
      clearTimeout(timer);
      asking?.abort();
    },
  };
}

function setAt(config, path, value) {
  const keys = path.split(".");
  const last = keys.pop();
  let place = config;
  for (const key of keys) place = place[key] ??= {};
  place[last] = value;
}
