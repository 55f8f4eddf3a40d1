// The answer: the digit, the verdict in words, ten bars, who answered, and the ten buttons that correct it.
import { announce, h, replace } from "../dom.js";
import { int, pct, share } from "../format.js";

const MIN_WIDTH = 0.6; // percent: a probability that is not nothing can be seen

export function makeAnswer(onCorrect) {
  const digit = h(".answer-digit", { "aria-hidden": "true" });
  const verdict = h("p.answer-verdict");
  const note = h("p.small.muted");
  const bars = Array.from({ length: 10 }, (_, d) => makeBar(d));
  const list = h(
    "ol.bars10.unmarked",
    { "aria-label": "Probability of each digit" },
    bars.map((bar) => bar.row),
  );
  const by = h("p.small.muted");
  const buttons = Array.from({ length: 10 }, (_, d) =>
    h("button", { onclick: () => onCorrect(d), "aria-label": `That was a ${d}`, disabled: true }, String(d)),
  );
  const root = h(
    "section.card.draw-answer",
    { "aria-label": "Answer", "aria-busy": "false", dataset: { state: "empty" } },
    h(".answer", digit, h("div", verdict, note)),
    list,
    h(
      ".correct",
      h("span.small.muted", { "aria-hidden": "true" }, "That was a"),
      h(".digits", { role: "group", "aria-label": "That was a" }, buttons),
    ),
    h(".draw-by", by),
  );

  const setBars = (probabilities, marked) => {
    for (const bar of bars) bar.show(probabilities?.[bar.d] ?? 0, bar.d === marked[0], marked.slice(1).includes(bar.d));
    for (const button of buttons) button.disabled = !probabilities;
  };
  const put = (state, big, words, small) => {
    root.dataset.state = state;
    replace(digit, big);
    replace(verdict, words);
    replace(note, small);
  };

  return {
    root,
    /** Shows a prediction as it is. */
    show(prediction) {
      const [best, second] = order(prediction.probabilities);
      const state = prediction.verdict ?? "plain";
      const texts = wording(state, best, second, prediction);
      put(state, texts.big, texts.words, texts.note);
      setBars(prediction.probabilities, state === "unsure" ? [best, second] : [best]);
    },
    empty() {
      put("empty", "–", h("span.muted", "Nothing to answer yet"), "An empty picture is not asked.");
      setBars(null, []);
    },
    /** Says what is going on while there is no answer, `track`: the share that is done, null if nothing is known. */
    wait(title, text, track) {
      put("waiting", "…", h("b", title), [
        text,
        track !== null && h(".track.wait", h("i", { style: { width: `${track * 100}%` } })),
      ]);
      setBars(null, []);
    },
    /** Says why there is no answer, and what can be done, `action`. */
    refuse(text, requestId, action = null) {
      put("refused", "–", h("b", "No answer"), [text, requestId && h("span.faint", ` Request ${requestId}.`), action]);
      setBars(null, []);
    },
    /** Whether what is drawn is not answered yet. */
    setBusy: (isBusy) => root.setAttribute("aria-busy", String(isBusy)),
    /** Says who answered, and draws the line of the confidence from which on it is sure. */
    showModel(model, isChampion) {
      list.classList.toggle("unmarked", model?.sure_confidence == null);
      if (model?.sure_confidence != null) list.style.setProperty("--sure", model.sure_confidence);
      replace(
        by,
        model && [
          isChampion && h("span.star", { "aria-hidden": "true" }, "★ "),
          h("a", { href: `#/runs/${model.run_id}` }, model.name || "unnamed run"),
          `${isChampion ? " · champion" : ""} · ${pct(model.val_accuracy, 1)} on val · ${int(model.num_parameters)} parameters`,
        ],
      );
    },
    /** Speaks the answer, after what was done. */
    say: (before = "") => announce(`${before}${spoken(root.dataset.state, digit.textContent, verdict.textContent)}`),
  };
}

function makeBar(d) {
  const fill = h("i");
  const text = h("span.share");
  const row = h("li.bar10", h("span.name", String(d)), h("span.rail", fill), text);
  const show = (p, isTop, isNext) => {
    fill.style.width = p < 0.0005 ? "0" : `${Math.max(MIN_WIDTH, p * 100)}%`;
    text.textContent = share(p);
    row.classList.toggle("top", isTop);
    row.classList.toggle("next", isNext);
  };
  return { d, row, show };
}

const order = (probabilities) =>
  probabilities
    .map((p, d) => [p, d])
    .sort((a, b) => b[0] - a[0])
    .map(([, d]) => d);

/** The answer as it is heard: the digit alone would say nothing of how sure it is, the verdict nothing of the digit. */
function spoken(state, digit, verdict) {
  if (state === "empty") return "";
  return state === "sure" || state === "plain" ? `A ${digit}: ${verdict}.` : `${verdict}.`;
}

function wording(state, best, second, { confidence }) {
  if (state === "sure")
    return {
      big: String(best),
      words: [h("b", share(confidence)), " sure"],
      note: "Answers this sure are nearly always right, also on warped val images.",
    };
  if (state === "unsure") {
    return {
      big: [String(best), h("small", "or"), String(second)],
      words: [h("b", "Not sure"), ` between ${best} and ${second}`],
      note: "Answers that are no surer than this are too often wrong.",
    };
  }
  if (state === "not_a_digit")
    return {
      big: "?",
      words: h("b", "Not a digit, it seems"),
      note: `The nearest would be a ${best}, but no training image is like this.`,
    };
  if (state === "blank") return { big: "–", words: h("span.muted", "Nothing to see"), note: "The picture is blank." };
  return {
    big: String(best),
    words: [h("b", share(confidence)), " confidence"],
    note: "This model has no thresholds: its confidence is shown as it is.",
  };
}
