// All sweeps, each with what it has found; and a form that makes one, with a dry run that says how much it is.
import { act } from "../acts.js";
import { link, setState } from "../address.js";
import * as api from "../api.js";
import { h, replace, toast } from "../dom.js";
import { int, LABELS, pct, seconds } from "../format.js";
import { Problem, SubmissionKeys } from "../http.js";
import { icon, stateIcon } from "../icons.js";
import { guard } from "../keys.js";
import { store } from "../store.js";
import { cividis, goodness, longName } from "../sweep/link.js";

export const title = "Sweeps";
const DEBOUNCE_MS = 300;
const DRAFT = "digitlab-sweep";
const NUM_REPORTS = 12; // sweeps whose reports are read: the newest

export async function show({ state }) {
  const list = h(".sweeplist");
  const note = h("span.note.muted");
  const form = h(".newsweep", { hidden: true });
  let timer = null;
  async function load() {
    timer = null;
    const page = await api.sweeps({ limit: 50 });
    replace(note, page.data.length ? `${int(page.data.length)}${page.has_more ? " newest" : ""}` : "");
    const cards = page.data.map((sweep) => card(sweep));
    replace(list, page.data.length ? cards.map((each) => each.root) : h("section.card.full", empty()));
    for (const each of cards.slice(0, NUM_REPORTS)) each.load();
  }
  const open = async (from, isBack = false) => {
    form.hidden = false;
    setState({ new: from ? null : "1", from });
    try {
      replace(form, await makeForm(from, readDraft(from, isBack)));
      form.querySelector("select, textarea")?.focus();
    } catch (error) {
      toast(error.message);
    }
  };
  const onEvent = ({ detail }) => {
    if (detail.sweep_id && detail.type !== "metric") timer ??= setTimeout(() => load().catch(() => {}), 2000);
  };
  store.addEventListener("event", onEvent);
  await load();
  return {
    root: h(
      ".page.sweeps",
      h(
        ".head",
        h("h1", "Sweeps"),
        note,
        h(".end", guard(act(h("button.btn.primary", icon("plus"), "New sweep"), () => open(null)))),
      ),
      form,
      list,
    ),
    entered: () => (state.has("new") || state.has("from") ? open(state.get("from"), true) : null),
    leave() {
      clearTimeout(timer);
      store.removeEventListener("event", onEvent);
    },
  };
}

function empty() {
  return h(
    ".empty",
    icon("sweeps", { width: 24, height: 24 }),
    h("strong", "No sweeps yet"),
    h("span", "A sweep trains many configurations and says what matters."),
    h("pre", { tabindex: 0 }, "digitlab sweep practice"),
  );
}

function card(sweep) {
  const finding = h("p.finding", h("span.faint", "…"));
  const mosaic = h(".mosaic", { "aria-hidden": "true" });
  const paths = Object.keys(sweep.parameters ?? {});
  const root = h(
    "a.card.sweepcard",
    { href: link(`sweeps/${sweep.id}`) },
    h(
      "header",
      h("h2", { dir: "auto" }, sweep.name || "unnamed sweep"),
      h("span.status", { class: sweep.status }, stateIcon(sweep.status), `${int(sweep.progress.trials)} trials`),
      h("span.end", sweep.best && h("b.acc", pct(sweep.best.val_accuracy, 1))),
    ),
    finding,
    mosaic,
    h(
      ".chips",
      paths.length
        ? paths.map((path) => h("span.chip", LABELS[path] ? longName(path) : path))
        : h("span.chip", `list of ${int(sweep.num_points)}`),
    ),
  );
  const load = async () => {
    const report = await api.report(sweep.id, false).catch(() => null);
    replace(finding, report?.answer ?? "");
    const points = [...(report?.points ?? [])].sort((a, b) => a.point_number - b.point_number).slice(0, 240);
    replace(
      mosaic,
      points.map((p) =>
        h("i", {
          style: { background: p.mean_val_accuracy == null ? "var(--sunken)" : cividis(goodness(p.mean_val_accuracy)) },
        }),
      ),
    );
  };
  return { root, load };
}

/** Keeps what was typed in this tab: {from, choice, text, isSubmitted}. */
const keepDraft = (draft) => sessionStorage.setItem(DRAFT, JSON.stringify(draft));

/** What was typed from the same beginning; one that was submitted is there for those who go back to it. */
function readDraft(from, isBack) {
  const draft = JSON.parse(sessionStorage.getItem(DRAFT));
  return draft?.from === from && (isBack || !draft.isSubmitted) ? draft : null;
}

/** The form: a preset, the document of an earlier sweep, or what was typed before, as JSON that one changes. */
async function makeForm(from, draft) {
  const presets = (await api.presets()).data.filter((each) => each.kind === "sweep");
  const before = from ? await api.sweep(from, true).catch(() => null) : null;
  const area = h("textarea.input.document", {
    "aria-label": "The sweep, as POST /sweeps takes it",
    spellcheck: "false",
    rows: 14,
  });
  const plan = h(".plan");
  const errors = h("ul.small.down", { role: "alert" });
  const submit = guard(h("button.btn.primary", { disabled: true }, icon("play"), "Start the sweep"));
  const submissions = new SubmissionKeys();
  let timer = null;
  let asking = null;
  const choose = h(
    "select.input.select",
    {
      "aria-label": "Start from",
      onchange: () => {
        const preset = presets.find((each) => each.name === choose.value);
        fill(preset ? { ...preset.config, name: preset.name } : documentOf(before));
        keepText();
      },
    },
    before && h("option", { value: "" }, before.name || "unnamed sweep"),
    presets.map((each) => h("option", { value: each.name }, each.name)),
  );
  const keepText = (isSubmitted = false) => keepDraft({ from, choice: choose.value, text: area.value, isSubmitted });
  const fill = (document) => {
    area.value = JSON.stringify(document, null, 2);
    ask();
  };
  const read = () => {
    try {
      return JSON.parse(area.value);
    } catch (error) {
      replace(errors, h("li", `This is no JSON: ${error.message}`));
      return null;
    }
  };
  async function ask() {
    asking?.abort();
    asking = new AbortController();
    submit.disabled = true;
    const document = read();
    if (!document) return replace(plan);
    try {
      const found = await api.planSweep(document, asking.signal);
      replace(errors);
      replace(
        plan,
        h("span", h("b", int(found.num_points)), " points"),
        h("span", h("b", int(found.num_trials)), " trials"),
        h("span", h("b", int(found.num_steps)), " steps"),
        found.estimated_seconds != null && h("span", "about ", h("b", seconds(found.estimated_seconds))),
        found.hint && h("span.down", found.hint),
      );
      submit.disabled = false;
    } catch (error) {
      if (error.name !== "AbortError") showErrors(error);
    }
    return null;
  }
  const showErrors = (error) => {
    replace(plan);
    const found =
      error instanceof Problem && error.errors.length ? error.errors : [{ pointer: "", detail: error.message }];
    replace(
      errors,
      found.map(({ pointer, detail }) => h("li", pointer && h("code", pointer), ` ${detail}`)),
    );
  };
  area.addEventListener("input", () => {
    keepText();
    clearTimeout(timer);
    timer = setTimeout(ask, DEBOUNCE_MS);
  });
  const root = h(
    "form.card",
    {
      "aria-label": "New sweep",
      onsubmit: async (event) => {
        event.preventDefault();
        const document = read();
        if (!document || submit.disabled || submit.getAttribute("aria-disabled")) return;
        submit.disabled = true;
        try {
          const sweep = await api.submitSweep(document, submissions.of(document));
          submissions.done(document);
          toast(`${int(sweep.progress.trials)} trials are queued`);
          location.hash = link(`sweeps/${sweep.id}`);
          keepText(true);
        } catch (error) {
          submit.disabled = false;
          showErrors(error);
        }
      },
    },
    h("header", h("h2", "New sweep"), h("span.note", "every field of a run's configuration can be searched")),
    h(".body.lines", h(".selectwrap", choose), area, errors, h(".plan", plan), h(".chips", submit)),
  );
  if (draft) {
    choose.value = draft.choice;
    area.value = draft.text;
    ask();
  } else if (before) fill(documentOf(before));
  else if (presets.length) fill({ ...presets[0].config, name: presets[0].name });
  return root;
}

/** The submission that makes an equal sweep. */
function documentOf({ name, base, search, parameters, points, repeats, cross_validation: folds, stopping }) {
  const document = { name, base, search, repeats, cross_validation: folds, stopping };
  return search.kind === "list" ? { ...document, points } : { ...document, parameters };
}
