// Which model answers /predict, why, and how it came to that; the others, and what is within noise of the champion.
import { act } from "../acts.js";
import { link, setState } from "../address.js";
import * as api from "../api.js";
import { copy, h, replace } from "../dom.js";
import { ago, bytes, int, pct, short } from "../format.js";
import { now } from "../http.js";
import { icon } from "../icons.js";
import { guard } from "../keys.js";
import { boardTable } from "../models/board.js";
import { duel } from "../models/duel.js";
import { attempt, modelButton } from "../run/actions.js";
import { numVal, plusMinus, readSplits } from "../splits.js";
import { store } from "../store.js";

export const title = "Models";
const LIMIT = 100;
const NUM_HISTORY = 12;
const ID = /((?:run )?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})/;

export async function show({ state }) {
  let champion = null;
  let models = [];
  let total = null; // of all saved models, where those here are only the best
  let outsider = null; // the challenger of the address, if it is none of these
  let challenger = state.get("against") ?? "";
  let withAll = state.get("trials") === "1";
  const root = h(".page.models");
  const stage = h(".body");
  const duelNote = h("span.note");

  async function load() {
    champion = await api.champion();
    if (champion) {
      const [page, { counts }] = await Promise.all([
        api.models({ limit: LIMIT }),
        api.runs({ limit: 1, counts: true }),
      ]);
      models = page.data;
      total = page.has_more ? counts.succeeded : null;
      await Promise.all([
        readSplits([champion.model, ...models].map((each) => each.config)).catch(() => {}),
        findOutsider(),
      ]);
    }
    draw();
    await showDuel();
  }
  /** Asks for the challenger by its id, if it is neither the champion nor one of the best models. */
  async function findOutsider() {
    const isHere = [champion.model, outsider ?? {}, ...models].some((each) => each.run_id === challenger);
    if (!challenger || isHere) return;
    const run = await api.run(challenger).catch(() => null);
    outsider = {
      run_id: challenger,
      name: run ? run.name : "a run that is gone",
      val_accuracy: run?.best?.val_accuracy,
    };
  }
  function draw() {
    if (!champion)
      return replace(
        root,
        h("h1", "Models"),
        h(
          "section.card.board",
          h(
            ".empty",
            icon("models", { width: 24, height: 24 }),
            h("strong", "No saved model yet"),
            h("span", "The first run that succeeds becomes the champion."),
            h("a.btn.primary", { href: "#/train" }, "Train one"),
          ),
        ),
      );
    const listed = h(".scroller", { tabindex: 0, role: "region", "aria-label": "Saved models" });
    const check = h("input", {
      type: "checkbox",
      checked: withAll,
      onchange: () => {
        withAll = check.checked;
        setState({ trials: withAll ? "1" : null });
        draw();
        showDuel();
      },
    });
    replace(
      listed,
      boardTable(withAll ? models : bestOfEachName(models, champion.model, challenger), champion.model, challenger, {
        challenge,
        pin,
      }),
    );
    return replace(
      root,
      h(
        ".head",
        h("h1", "Models"),
        h(
          "span.note",
          total ? `${int(models.length)} best of ${int(total)} saved models` : `${int(models.length)} saved models`,
        ),
      ),
      hero(),
      history(),
      h(
        "section.card.challenge",
        h("header", h("h2", "Challenge the champion"), duelNote, h("span.end", h(".selectwrap", chooser()))),
        stage,
      ),
      h(
        "section.card.board",
        h(
          "header",
          h("h2", "Saved models"),
          h("span.note", h("i.bandkey"), " within noise of the champion"),
          h("span.end", h("label.small.muted.check", check, " every trial of a sweep")),
        ),
        listed,
      ),
    );
  }
  function chooser() {
    return h(
      "select.input.select",
      { "aria-label": "Challenger", onchange: (event) => challenge({ run_id: event.target.value }) },
      h("option", { value: "" }, "Choose a model"),
      [...models, outsider]
        .filter((each) => each && each.run_id !== champion.model.run_id)
        .map((each) =>
          h(
            "option",
            { value: each.run_id, selected: each.run_id === challenger },
            `${each.name || "unnamed run"} · ${pct(each.val_accuracy, 1)}`,
          ),
        ),
    );
  }
  function challenge(model) {
    challenger = model.run_id;
    setState({ against: challenger });
    draw();
    showDuel();
  }
  async function showDuel() {
    if (!champion) return;
    const model = [...models, outsider].find(
      (each) => each?.run_id === challenger && challenger !== champion.model.run_id,
    );
    if (!model)
      return replace(
        stage,
        h("p.small.faint", "Choose a model: its mistakes are laid beside the champion's, on the same images."),
      );
    replace(duelNote, `${model.name || "unnamed run"}, against ${champion.model.name || "unnamed run"}`);
    const found = await api.mistakes(model.run_id, { against: champion.model.run_id }).catch((error) => error);
    if (model.run_id !== challenger) return; // another one was chosen meanwhile
    replace(stage, found instanceof Error ? h("p.small", found.message) : duel(found, ["mended", "new", "of both"]));
  }
  const change = async (work, said) => (await attempt(work, said)) && reload();
  const pin = (model) =>
    change(() => api.pin(model.run_id), `${model.name || "unnamed run"} answers from now on, pinned`);

  function hero() {
    const { model, reason, why, automatic } = champion;
    const before = champion.history.slice(1).find((each) => !each.is_deleted && each.run_id !== model.run_id);
    const beforeName = before && (before.name || "the one before");
    const isPinned = reason === "pinned";
    return h(
      "section.card.champion",
      h(
        ".hero",
        h("span.herostar", { "aria-hidden": "true" }, "★"),
        h(
          "div",
          h("p.small.muted", h("code", "POST /predict"), " is answered by"),
          h("h2.heroname", h("a", { href: link(`runs/${model.run_id}`), dir: "auto" }, model.name || "unnamed run")),
          h(
            "p.why",
            h("span.chip", { class: isPinned ? "warn" : "accent" }, reason),
            " ",
            withNames(why ?? "", models),
          ),
        ),
      ),
      h(
        "dl.stats",
        stat("val accuracy", pct(model.val_accuracy, 2), plusMinus(model.val_accuracy, numVal(model.config))),
        model.shifted_accuracy != null &&
          stat("shifted val", pct(model.shifted_accuracy, 1), ` ± ${(model.shifted_standard_error * 100).toFixed(1)}`),
        stat("val loss", short(model.val_loss)),
        stat("parameters", int(model.num_parameters)),
        stat("epoch", int(model.epoch)),
        stat("ONNX", bytes(model.size_bytes)),
        stat("sha256", h("span.mono", model.sha256.slice(0, 8))),
      ),
      h(
        ".acts",
        before &&
          guard(
            act(h("button.btn", icon("back"), h("span.cut", `Roll back to ${beforeName}`)), () =>
              change(api.rollBack, `${beforeName} answers again, pinned`),
            ),
          ),
        isPinned
          ? guard(
              act(
                h(
                  "button.btn",
                  h(
                    "span.cut",
                    automatic ? `Back to automatic: ${automatic.name || "unnamed run"}` : "Back to automatic",
                  ),
                ),
                () => change(api.unpin, `${automatic?.name || "The best model"} answers, automatically`),
              ),
            )
          : guard(h("button.btn", { disabled: true, title: "It is automatic already" }, "Back to automatic")),
        h("span.spacer"),
        modelButton("button.btn.ghost", model.run_id),
        h(
          "button.btn.ghost",
          { onclick: () => copy(`curl -s ${new URL("models/champion", new URL(".", location.href))}`, "curl") },
          icon("copy"),
          "curl",
        ),
      ),
    );
  }
  function history() {
    return h(
      "section.card.history",
      h("header", h("h2", "How it came to that")),
      h(
        ".body",
        h(
          "ol.timeline",
          champion.history.slice(0, NUM_HISTORY).map((each, i) => {
            return h(
              "li",
              { class: i === 0 ? "now" : "" },
              h("span.node", each.reason === "pinned" ? icon("pin") : ""),
              h(
                "span.who",
                each.is_deleted
                  ? h("span.faint", `${each.name || "a run"}, deleted`)
                  : h("a", { href: link(`runs/${each.run_id}`), dir: "auto" }, each.name || "unnamed run"),
              ),
              h("span.chip", { class: each.reason === "pinned" ? "warn" : "" }, each.reason),
              h("b.acc", each.val_accuracy == null ? "–" : pct(each.val_accuracy, 1)),
              h("span.faint.small", ago(each.created_at, now())),
            );
          }),
        ),
      ),
    );
  }
  const reload = () => load().catch(() => {});
  store.addEventListener("champion", reload);
  await load();
  return { root, leave: () => store.removeEventListener("champion", reload) };
}

/** One model of each name, the best: trials of a sweep share theirs. The champion and the challenger stay. */
function bestOfEachName(models, champion, challenger) {
  const names = new Set();
  return models.filter((each) => {
    const isNew = !names.has(each.name) || each.run_id === champion.run_id || each.run_id === challenger;
    if (each.name) names.add(each.name);
    return isNew;
  });
}

/** A sentence of the service, with a link by its name in place of each model's id. */
function withNames(text, models) {
  return text.split(ID).map((part) => {
    const model = models.find((each) => each.run_id === part.replace(/^run /, ""));
    return model ? h("a", { href: link(`runs/${model.run_id}`), dir: "auto" }, model.name || "unnamed run") : part;
  });
}

const stat = (name, text, unit) => h("div.stat", h("dt", name), h("dd", text, unit && h("small", unit)));
