// Second opinions: what other saved models answer to the same pixels.
import { link, read } from "../address.js";
import * as api from "../api.js";
import { h, replace } from "../dom.js";
import { Asker } from "./asker.js";
import { pct, share } from "../format.js";
import { rowsOf } from "../tiles.js";

const NUM_DEFAULT = 3;
const MAX_CHOSEN = 8;
const NUM_OFFERED = 50;

export function makeOpinions(championId, setState) {
  let models = [];
  let chosen = [];
  let last = null;
  const list = h("ul.opinions");
  const more = h("select.input.select", {
    "aria-label": "Add a model",
    onchange: () => choose([...chosen, more.value]),
  });
  const asker = new Asker(
    (what) => Promise.all(chosen.map((id) => api.predict({ instances: [rowsOf(what.pixels)] }, id).catch(() => null))),
    (answers, what) => what === last && show(answers),
    () => {},
  );

  function choose(ids) {
    chosen = [...new Set(ids)].filter((id) => models.some((each) => each.run_id === id)).slice(0, MAX_CHOSEN);
    setState({ with: chosen.join(",") });
    offer();
    ask(last?.pixels ?? null, last?.digit ?? null);
  }
  function offer() {
    replace(
      more,
      h("option", { value: "" }, "Add a model"),
      models
        .filter((each) => !chosen.includes(each.run_id))
        .map((each) =>
          h("option", { value: each.run_id }, `${each.name || "unnamed run"} · ${pct(each.val_accuracy, 1)}`),
        ),
    );
  }
  function show(answers) {
    replace(
      list,
      chosen.map((id, i) =>
        row(
          models.find((each) => each.run_id === id),
          answers?.[i]?.predictions[0],
          last?.digit,
          () => choose(chosen.filter((each) => each !== id)),
        ),
      ),
      !chosen.length &&
        h(
          "li.small.faint",
          models.length ? "Choose a model whose answer you want to see too." : "There are no other models yet.",
        ),
    );
  }
  function ask(pixels, digit) {
    last = pixels && { pixels, digit };
    if (!pixels) return show(null);
    return asker.request(last);
  }
  async function load() {
    models = (await api.models({ limit: NUM_OFFERED })).data;
    const wanted = (read().state.get("with") ?? "")
      .split(",")
      .filter((id) => models.some((each) => each.run_id === id));
    chosen = wanted.length ? wanted : varied(models.filter((each) => each.run_id !== championId()));
    offer();
    ask(last?.pixels ?? null, last?.digit ?? null);
  }
  show(null);
  return {
    root: h(
      "section.card.draw-opinions",
      h("header", h("h2", "Second opinions"), h("span.end", h(".selectwrap", more))),
      h(".body", list),
    ),
    ask,
    load,
  };
}

/** The best of each name, so that repeats of one run do not fill the list. */
function varied(models) {
  const names = new Set();
  return models
    .filter((each) => !names.has(each.name) && names.add(each.name))
    .slice(0, NUM_DEFAULT)
    .map((each) => each.run_id);
}

function row(model, answer, digit, onRemove) {
  const differs = answer && digit !== null && answer.digit !== digit;
  return h(
    "li.opinion",
    h("a.who", { href: link(`runs/${model.run_id}`) }, model.name || "unnamed run"),
    h("span.rail", h("i", { style: { width: answer ? `${answer.confidence * 100}%` : "0" } })),
    h("span.share", answer ? share(answer.confidence) : ""),
    h(
      "span.what",
      { class: differs ? "differs" : "", title: answer ? (differs ? "differs" : "agrees") : null },
      answer ? String(answer.digit) : "–",
    ),
    h("button.out", { "aria-label": `Leave ${model.name || "this model"} out`, onclick: onRemove }, "×"),
  );
}
