// The digits that were drawn, with the labels that they were given: kept in this browser until they are exported.
import { download, h, replace, toast } from "../dom.js";
import { icon } from "../icons.js";
import { digitTile } from "../tiles.js";

const PLACE = "digitlab-digits";
const MAX_KEPT = 500;
const NUM_SHOWN = 24;

/** Reads what is kept: [{pixels, strokes, digit, verdict, run_id, label, at}], the newest first. */
export function kept() {
  try {
    return JSON.parse(localStorage.getItem(PLACE)) ?? [];
  } catch {
    return [];
  }
}

function keep(entries) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(entries.slice(0, MAX_KEPT)));
  } catch {
    toast("The browser has no room for more digits: export them, then clear them.");
  }
}

export function makeDigits(onShow) {
  let entries = kept();
  let isOpen = false; // whether the newest entry is the drawing on the pad
  const strip = h(".recent");
  const note = h("span.note");

  const store = () => {
    keep(entries);
    show();
  };
  const show = () => {
    const labelled = entries.filter((each) => each.label !== undefined).length;
    replace(note, "kept in this browser", labelled > 0 && ` · ${labelled} labelled`);
    replace(
      strip,
      entries.length
        ? entries.slice(0, NUM_SHOWN).map((each) => tile(each, onShow))
        : h("p.small.faint.none", "What you draw will stand here."),
    );
  };
  const clear = () => {
    entries = [];
    isOpen = false;
    store();
  };
  show();

  return {
    root: h(
      "section.card.draw-recent",
      h(
        "header",
        h("h2", "Your digits"),
        note,
        h(
          "span.end",
          h("button.btn.ghost", { onclick: () => entries.length && save(entries) }, icon("down"), "Export"),
          h("button.btn.ghost.icon", { onclick: clear, "aria-label": "Forget all digits" }, icon("trash")),
        ),
      ),
      h(".body", strip),
    ),
    /** Keeps the drawing on the pad with its answer; the same drawing, gone on with, stays one entry. */
    remember(entry) {
      entries = [{ ...entry, at: new Date().toISOString() }, ...(isOpen ? entries.slice(1) : entries)];
      isOpen = true;
      store();
    },
    /** The pad shows another drawing from now on. */
    close() {
      isOpen = false;
    },
    /** Gives the newest entry its true label. */
    label(label) {
      if (!isOpen) return;
      const before = entries;
      entries = [{ ...entries[0], label }, ...entries.slice(1)];
      isOpen = false;
      store();
      toast(
        label === before[0].digit ? `Right: kept as a ${label}` : `Kept as a ${label}, in this browser`,
        h(
          "button.btn.ghost",
          {
            onclick: () => {
              entries = before;
              store();
            },
          },
          "Undo",
        ),
      );
    },
  };
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

function save(entries) {
  download(new Blob([JSON.stringify(entries, null, 1)], { type: "application/json" }), "digitlab-digits.json");
}
