// Two runs on the same images: which mistakes are mended, which are new, which both make.
import { h } from "../dom.js";
import { mistakeTile } from "../run/confusion.js";

const NUM_SHOWN = 12;

/**
 * @param {object} comparison the answer of `/runs/{id}/mistakes?against=`
 * @param {string[]} names headings of fixed, introduced, shared
 */
export function duel({ fixed, introduced, shared }, names) {
  const part = (list, name, cls) =>
    h(
      "div",
      h("h3", h("b", { class: cls }, String(list.length)), ` ${name}`),
      list.length ? h(".tiles.duels", list.slice(0, NUM_SHOWN).map(mistakeTile)) : h("p.small.faint", "None."),
      list.length > NUM_SHOWN && h("p.small.faint", `and ${list.length - NUM_SHOWN} more`),
    );
  return h(".duel", part(fixed, names[0], "up"), part(introduced, names[1], "down"), part(shared, names[2], ""));
}
