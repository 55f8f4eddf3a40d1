// The digits that were drawn, with the labels that they were given: kept in this browser until they are exported.
import { act } from "../acts.js";
import { download, h, replace, toast } from "../dom.js";
import { newId } from "../http.js";
import { icon } from "../icons.js";
import { digitTile } from "../tiles.js";

const PLACE = "digitlab-digits";
const MAX_KEPT = 500;
const NUM_SHOWN = 24;

/**
 * Reads what is kept: [{id, pixels, strokes, digit, verdict, run_id, label, at}], the newest first. Entries of earlier
 * versions have no id.
 */
export function kept() {
  try {
    const entries = JSON.parse(localStorage.getItem(PLACE));
    return Array.isArray(entries) ? entries : [];
  } catch {
    return [];
  }
}

let shown = () => {}; // draws the strip that is on the page

/** Changes what is kept, beginning with what is stored now: other tabs keep digits too. */
function change(work) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(work(kept()).slice(0, MAX_KEPT)));
  } catch {
    toast("The browser has no room for more digits: export them, then clear them.");
  }
  shown();
}

const changeOne = (id, work) => change((entries) => entries.map((each) => (each.id === id ? work(each) : each)));

addEventListener("storage", ({ key }) => [PLACE, null].includes(key) && shown());

export function makeDigits(onShow) {
  let open = null; // id of the entry that is the drawing on the pad
  const strip = h(".recent");
  const note = h("span.note");
  shown = () => {
    const entries = kept();
    const labelled = entries.filter((each) => each.label !== undefined).length;
    replace(note, "kept in this browser", labelled > 0 && ` · ${labelled} labelled`);
    replace(
      strip,
      entries.length
        ? entries.slice(0, NUM_SHOWN).map((each) => tile(each, onShow))
        : h("p.small.faint.none", "What you draw will stand here."),
    );
  };
  shown();
  const clear = () => {
    const gone = kept();
    open = null;
    change(() => []);
    if (gone.length) offerUndo(`${gone.length} forgotten`, () => change((entries) => [...entries, ...gone]));
  };

  return {
    root: h(
      "section.card.draw-recent",
      h(
        "header",
        h("h2", "Your digits"),
        note,
        h(
          "span.end",
          h("button.btn.ghost", { onclick: save }, icon("down"), "Export"),
          act(h("button.btn.ghost.icon", { "aria-label": "Forget all digits" }, icon("trash")), clear),
        ),
      ),
      h(".body", strip),
    ),
    /** Keeps the drawing on the pad with its answer; the same drawing, gone on with, stays one entry. */
    remember(entry) {
      const id = (open ??= newId());
      const whole = { id, ...entry, at: new Date().toISOString() };
      change((entries) => [whole, ...entries.filter((each) => each.id !== id)]);
    },
    /** The pad shows another drawing from now on. */
    close() {
      open = null;
    },
    /** Gives the drawing on the pad its true label. */
    label(label) {
      const entry = open && kept().find((each) => each.id === open);
      open = null;
      if (!entry) return;
      changeOne(entry.id, (each) => ({ ...each, label }));
      offerUndo(label === entry.digit ? `Right: kept as a ${label}` : `Kept as a ${label}, in this browser`, () =>
        changeOne(entry.id, (each) => ({ ...each, label: entry.label })),
      );
    },
  };
}

/** Says what was done, with a button that takes it back once. */
function offerUndo(text, work) {
  const undo = act(h("button.btn.ghost", "Undo"), () => {
    undo.closest(".toast")?.remove();
    work();
  });
  toast(text, undo);
}

function tile(each, onShow) {
  const isRight = each.label === undefined || each.label === each.digit;
  const text = isRight
    ? h("span", each.verdict === "sure" || !each.verdict ? String(each.digit) : `${each.digit}?`)
    : h("span", `${each.digit} → `, h("b", String(each.label)));
  return h(
    "button.digit",
    {
      "aria-label": `Show it again: answered as ${each.digit}${isRight ? "" : `, it was a ${each.label}`}`,
      onclick: () => onShow(each),
    },
    digitTile(each.pixels, ""),
    text,
  );
}

function save() {
  const entries = kept();
  if (!entries.length) return;
  download(new Blob([JSON.stringify(entries, null, 1)], { type: "application/json" }), "digitlab-digits.json");
}
