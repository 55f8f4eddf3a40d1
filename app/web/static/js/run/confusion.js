// Confusion and mistakes: a cell or a chip filters one gallery; a mistake opens in Draw.
import { link, setState } from "../address.js";
import { h, replace } from "../dom.js";
import { pct } from "../format.js";
import { digitTile, pack } from "../tiles.js";

const NUM_CHIPS = 7;
const NUM_SHOWN = 60;
const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 };

export function makeConfusion(run, confusion, mistakes, initialCell) {
  let cell = /^[0-9],[0-9]$/.test(initialCell) ? initialCell : "";
  const shown = h(".tiles.shown");
  const chips = h(".chips");
  const cells = makeMatrix(confusion, (text) => pick(text));
  const pairs = Object.entries(Object.groupBy(mistakes.data, (each) => `${each.label},${each.predicted}`)).sort(
    (a, b) => b[1].length - a[1].length,
  );
  function pick(text) {
    cell = text === cell ? "" : text;
    setState({ cell });
    show();
  }
  function show() {
    for (const each of cells.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each.value === cell));
    const [label, predicted] = cell.split(",").map(Number);
    const here = cell
      ? mistakes.data.filter((each) => each.label === label && each.predicted === predicted)
      : mistakes.data;
    replace(
      chips,
      pairs
        .slice(0, NUM_CHIPS)
        .map(([key, each]) =>
          h(
            "button.chip",
            { class: key === cell ? "accent" : "", "aria-pressed": String(key === cell), onclick: () => pick(key) },
            key.replace(",", " → "),
            each.length > 1 && h("b", `×${each.length}`),
          ),
        ),
      cell && h("button.chip.line", { onclick: () => pick(cell) }, "all"),
    );
    const rest = here.length - NUM_SHOWN;
    replace(
      shown,
      here.length
        ? here.slice(0, NUM_SHOWN).map(mistakeTile)
        : h(
            "p.small.faint.none",
            cell && label === predicted ? `${confusion.counts[label][label]} are right.` : "None.",
          ),
      rest > 0 && h("p.small.faint.none", `and ${rest} more`),
    );
  }
  show();
  const total = confusion.counts.flat().reduce((sum, n) => sum + n, 0);
  return h(
    "section.card.a-conf",
    h(
      "header",
      h("h2", "Confusion and mistakes"),
      h("span.note", `${mistakes.total} of ${total} on val · true ↓, answered →`),
      h("span.end", h("a.small", { href: link("runs", { select: run.id }) }, "against another run")),
    ),
    h(".body.confuse", cells, h(".cellside", chips, shown)),
  );
}

function makeMatrix({ labels, counts, normalized }, onPick) {
  const most = Math.max(1, ...counts.flatMap((row, i) => row.filter((_, j) => j !== i)));
  const cells = h(".matrix", {
    role: "group",
    "aria-label": "Confusion: rows are true digits, columns predicted ones",
  });
  cells.append(h("span"), ...labels.map((d) => h("span.mhead", String(d))));
  counts.forEach((row, i) => {
    cells.append(h("span.mhead", String(i)));
    row.forEach((n, j) => {
      const look = i === j ? "right" : n > 0 ? "wrongcell" : "none";
      cells.append(
        h(
          "button",
          {
            value: `${i},${j}`,
            class: look,
            tabindex: i === 0 && j === 0 ? 0 : -1,
            "aria-pressed": "false",
            "aria-label": `${n} of digit ${i} answered as ${j}`,
            style: { "--heat": i === j ? normalized[i][j] : n / most },
            onclick: () => onPick(`${i},${j}`),
          },
          n ? String(n) : "",
        ),
      );
    });
  });
  cells.addEventListener("keydown", (event) => {
    const all = [...cells.querySelectorAll("button")];
    const next = all[all.indexOf(document.activeElement) + STEPS[event.key]];
    if (!next) return;
    event.preventDefault();
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  return cells;
}

/** A mistake as a link to Draw, with how confident the model was. */
export function mistakeTile(each) {
  return h(
    "a.digit",
    {
      href: link("draw", { x: pack(each.pixels.flat()).replace(/0+$/, "") }),
      title: `image ${each.index}: ${pct(each.confidence)} confidence`,
      "aria-label": `A ${each.label}, taken for a ${each.predicted} with ${pct(each.confidence, 0)} confidence. Open it in Draw.`,
    },
    digitTile(each.pixels.flat(), ""),
    h("span", `${each.label} `, h("i", "→ "), h("b", String(each.predicted))),
    h("i.small", pct(each.confidence, 0)),
  );
}
