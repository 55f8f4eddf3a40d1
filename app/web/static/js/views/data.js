// The images that everything is trained on: how many of each digit, and the images themselves.
import { link, read, setState } from "../address.js";
import * as api from "../api.js";
import { h, replace } from "../dom.js";
import { int } from "../format.js";
import { digitTile, pack } from "../tiles.js";

export const title = "Data";
const PAGE = 120;
const SPLITS = { "": "All", train: "Train", val: "Val" };

export async function show({ state }) {
  let filter = {
    split: state.get("split") ?? "",
    label: state.get("label") ?? "",
    after: Number(state.get("after")) || 0,
  };
  const dataset = await api.dataset("digits");
  const tiles = h(".tiles.samples");
  const foot = h(".chips");
  const load = async (changes = {}) => {
    const wanted = (filter = { ...filter, ...changes });
    setState({ ...filter, after: filter.after || null });
    const page = await api.samples("digits", { ...filter, limit: PAGE });
    if (wanted !== filter) return; // another page was asked for meanwhile
    replace(
      tiles,
      page.data.map((each) =>
        h(
          "a.digit",
          {
            href: link("draw", { x: pack(each.pixels.flat()).replace(/0+$/, "") }),
            "aria-label": `Image ${each.index}, a ${each.label}. Open it in Draw.`,
          },
          digitTile(each.pixels.flat(), ""),
          h("span", String(each.label)),
        ),
      ),
    );
    replace(
      foot,
      filter.after > 0 &&
        h("button.btn", { onclick: () => load({ after: Math.max(0, filter.after - PAGE) }) }, "Before"),
      page.has_more && h("button.btn", { onclick: () => load({ after: filter.after + PAGE }) }, "Next"),
    );
    mark();
  };
  const splits = Object.entries(SPLITS).map(([value, text]) =>
    h("button", { value, onclick: () => load({ split: value, after: 0 }) }, text),
  );
  const most = Math.max(...dataset.class_counts);
  const counts = dataset.class_counts.map((n, d) =>
    h(
      "button.count",
      {
        value: d,
        "aria-label": `${n} images of digit ${d}`,
        onclick: () => load({ label: String(d) === filter.label ? "" : String(d), after: 0 }),
      },
      h("span", String(d)),
      h("span.rail", h("i", { style: { width: `${(n / most) * 100}%` } })),
      h("span.faint", int(n)),
    ),
  );
  const mark = () => {
    for (const button of splits) button.setAttribute("aria-pressed", String(button.value === filter.split));
    for (const button of counts) button.setAttribute("aria-pressed", String(button.value === filter.label));
  };
  await load(Object.fromEntries([...read().state].filter(([key]) => ["split", "label"].includes(key))));
  return {
    root: h(
      ".page.data",
      h(
        ".head",
        h("h1", "Data"),
        h("span.note.muted", `${int(dataset.num_samples)} images. ${dataset.description}`),
      ),
      h("section.card", h("header", h("h2", "How many of each digit")), h(".body.counts", counts)),
      h(
        "section.card",
        h("header", h("h2", "Images"), h("span.end", h(".seg", { role: "group", "aria-label": "Split" }, splits))),
        h(".body.lines", tiles, foot),
      ),
    ),
  };
}
