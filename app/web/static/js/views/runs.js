// All runs: what differs, how good, how far. Trials of a sweep are one row. Choose some, compare them.
import { setState } from "../address.js";
import * as api from "../api.js";
import { h, onceAFrame, replace } from "../dom.js";
import { int } from "../format.js";
import { icon, stateIcon } from "../icons.js";
import { makeDock } from "../runs/dock.js";
import { RunList } from "../runs/list.js";
import { makeRow } from "../runs/row.js";
import { store } from "../store.js";
import { virtualBody } from "../virtual.js";

export const title = "Runs";
const STATES = ["running", "queued", "paused", "succeeded", "failed", "cancelled"];
const SEARCH_MS = 200;
const MAX_SEARCH = 200; // characters, as the service takes
const KINDS = { mlp: "network", random_forest: "forest", ensemble: "ensemble" };

export async function show({ state }) {
  const chosen = new Set(state.getAll("select"));
  let filter = {
    status: state.get("status") ?? "",
    q: state.get("q") ?? "",
    kind: state.get("kind") ?? "",
    tag: state.get("tag") ?? "",
    sweep: state.get("sweep") ?? "",
    trials: state.get("trials") === "1",
    sort: state.get("sort") ?? "-created_at",
  };
  const list = new RunList();
  const [defaults] = await Promise.all([api.defaults().catch(() => null), list.open(filter)]);
  const phone = matchMedia("(max-width: 760px)");
  const body = virtualBody(
    null,
    () => (phone.matches ? 60 : 45),
    render,
    (first, last) => {
      if (!phone.matches) list.wantSeries(first, last).catch(() => {});
      if (last >= list.rows.length - 10 && list.hasMore) list.more().catch(() => {});
    },
  );
  const found = h("span.note");
  const empty = h(".empty", { hidden: true });
  const dock = makeDock({
    clear: () => {
      chosen.clear();
      choose();
    },
    changed: (ids) => list.refresh(ids),
  });

  function render(i) {
    const run = list.rows[i];
    return makeRow(run, {
      defaults,
      series: list.series.get(run.id),
      isChampion: run.id === store.champion?.model.run_id,
      isChosen: chosen.has(run.id),
      onChoose: (isOn) => {
        if (isOn) chosen.add(run.id);
        else chosen.delete(run.id);
        choose(false);
      },
    });
  }
  function choose(redraw = true) {
    setState({ select: [...chosen] });
    dock.show([...chosen]);
    if (redraw) body.redraw();
  }
  const draw = onceAFrame(() => {
    body.setCount(list.rows.length);
    const isFiltered = filter.status || filter.q || filter.kind || filter.tag || filter.sweep;
    const total = list.counts && (filter.status ? list.counts[filter.status] : list.counts.total);
    replace(
      found,
      total === null
        ? ""
        : `${int(Math.min(total, list.rows.filter((row) => !row.is_sweep).length))} of ${int(total)}${isFiltered ? " that match" : ""}`,
    );
    for (const button of segments.children) {
      const count = list.counts && button.value ? list.counts[button.value] : 0;
      button.lastElementChild?.classList.contains("count") && replace(button.lastElementChild, count ? int(count) : "");
      button.hidden = Boolean(list.counts && button.value && !count && button.value !== filter.status);
    }
    empty.hidden = list.rows.length > 0 || !list.isFirst;
    table.hidden = !empty.hidden;
    if (!empty.hidden) replace(empty, isFiltered ? nothingFound() : noRuns());
  });
  const set = async (changes) => {
    filter = { ...filter, ...changes };
    setState({
      ...filter,
      sort: filter.sort === "-created_at" ? null : filter.sort,
      trials: filter.trials ? "1" : null,
    });
    for (const button of segments.children) button.setAttribute("aria-pressed", String(button.value === filter.status));
    for (const th of heads) markSort(th, filter.sort);
    await list.open(filter).catch((error) => replace(found, error.message));
    draw();
  };
  const nothingFound = () => [
    h("strong", "No run is like that"),
    h(
      "button.btn",
      {
        onclick: () => {
          search.value = kind.value = "";
          set({ status: "", q: "", kind: "", tag: "", sweep: "" });
        },
      },
      "Show all",
    ),
  ];

  const segments = h(
    ".seg",
    { role: "group", "aria-label": "State" },
    h("button", { value: "", "aria-pressed": String(!filter.status), onclick: () => set({ status: "" }) }, "All"),
    STATES.map((each) =>
      h(
        "button",
        { value: each, "aria-pressed": String(filter.status === each), onclick: () => set({ status: each }) },
        h("span.status", { class: each }, stateIcon(each)),
        each,
        h("span.count"),
      ),
    ),
  );
  let typing = null;
  const search = h("input.input", {
    type: "search",
    maxLength: MAX_SEARCH,
    placeholder: "Name, note, id, tag: unit:2",
    value: filter.q,
    "aria-label": "Search",
    oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => set({ q: search.value.trim() }), SEARCH_MS);
    },
  });
  const kind = h(
    "select.input.select",
    { "aria-label": "Model", onchange: () => set({ kind: kind.value }) },
    h("option", { value: "" }, "Any model"),
    Object.entries(KINDS).map(([value, text]) => h("option", { value, selected: filter.kind === value }, text)),
  );
  const heads = makeHeads((sort) => set({ sort: filter.sort === `-${sort}` ? sort : `-${sort}` }));
  for (const th of heads) markSort(th, filter.sort);
  const table = h("table.table", h("thead", h("tr", heads)), body);
  const root = h(
    ".page.runs",
    h(".head", h("h1", "Runs"), found, h(".end", h("a.btn.primary", { href: "#/train" }, icon("plus"), "New run"))),
    h(
      ".filters",
      h(".search", icon("search"), search),
      h(".segscroll", segments),
      h(".selectwrap", kind),
      (filter.tag || filter.sweep) &&
        h(
          "span.chip.line",
          filter.tag ? `tag ${filter.tag}` : "of one sweep",
          h("button", { "aria-label": "Show all", onclick: () => set({ tag: "", sweep: "" }) }, "×"),
        ),
    ),
    h("section.card", { "aria-label": "Runs" }, table, empty),
    dock.root,
  );
  list.addEventListener("change", draw);
  store.addEventListener("champion", draw);
  return {
    root,
    entered() {
      draw();
      dock.show([...chosen]);
    },
    leave() {
      clearTimeout(typing);
      list.leave();
      body.leave();
      store.removeEventListener("champion", draw);
    },
  };
}

function makeHeads(onSort) {
  const head = (name, sort, cls = "") =>
    h(
      "th",
      { class: cls, dataset: sort ? { sort } : {}, scope: "col" },
      sort ? h("button", { onclick: () => onSort(sort) }, name, h("i.sorted", { "aria-hidden": "true" })) : name,
    );
  return [
    head(h("span.sr", "choose"), null, "check"),
    head("Run", "name"),
    head("What differs from the defaults", null, "wide"),
    head("Val accuracy", "val_accuracy", "num"),
    head("Shifted", "shifted_accuracy", "num wide wider"),
    head("Over epochs", null, "wide wider"),
    head("Parameters", "num_parameters", "num wide wider"),
    head("Progress", null, "wide"),
    head("Created", "created_at", "num wide wider"),
  ];
}

function markSort(th, sort) {
  if (!th.dataset.sort) return;
  if (th.dataset.sort !== sort.replace("-", "")) th.removeAttribute("aria-sort");
  else th.setAttribute("aria-sort", sort.startsWith("-") ? "descending" : "ascending");
}

function noRuns() {
  return [
    icon("train", { width: 24, height: 24 }),
    h("strong", "No runs yet"),
    h("span", "The first one takes a second or two."),
    h("a.btn.primary", { href: "#/train" }, "Train one"),
    h("pre", { tabindex: 0 }, "digitlab train --preset dropout-tanh"),
  ];
}
