// What can be done with the runs that are chosen.
import { act, confirming } from "../acts.js";
import { link } from "../address.js";
import * as api from "../api.js";
import { h, replace, toast } from "../dom.js";
import { newId } from "../http.js";
import { icon } from "../icons.js";
import { guard } from "../keys.js";

const MAX_COMPARED = 12;

/** @param {object} on clear(), changed(ids) */
export function makeDock(on) {
  const keys = new Map(); // run → key of its next submission: one whose answer was lost is not made twice
  const root = h(".dock", { hidden: true, role: "toolbar", "aria-label": "Chosen runs" });

  /** Does something with each run; says in the server's words what was refused. */
  const each = async (ids, work, said) => {
    const results = await Promise.allSettled(ids.map(work));
    const refused = results.filter((result) => result.status === "rejected");
    if (refused.length) toast(refused[0].reason.message);
    if (refused.length < ids.length) toast(said(ids.length - refused.length));
    on.changed(ids);
  };
  const tag = (ids) => {
    const field = h("input.input", {
      "aria-label": "Tag, as key:value",
      placeholder: "key:value",
      size: 14,
      required: true,
    });
    const form = h(
      "form.tagging",
      {
        onsubmit: (event) => {
          event.preventDefault();
          const [key, ...rest] = field.value.split(":");
          each(
            ids,
            async (id) => api.patch(id, { tags: { ...(await api.run(id)).tags, [key.trim()]: rest.join(":").trim() } }),
            (n) => `${n} tagged`,
          );
          on.clear();
        },
      },
      field,
      h("button.btn", "Tag"),
    );
    replace(root, h("b", `${ids.length} chosen`), form);
    field.focus();
  };
  const remove = (ids) => {
    replace(
      root,
      h("b", `Delete ${ids.length === 1 ? "this run" : `these ${ids.length} runs`}? This cannot be undone.`),
      confirming(h("button.btn.primary", "Delete"), () => {
        on.clear();
        return each(ids, api.remove, (n) => `${n} deleted`);
      }),
      h("button.btn.ghost", { onclick: () => show(ids) }, "Keep"),
    );
  };
  const again = (ids) =>
    each(
      ids,
      async (id) => {
        keys.set(id, keys.get(id) ?? newId());
        await api.submit({ from_run: id }, keys.get(id));
        keys.delete(id);
      },
      (n) => `${n} queued again`,
    );

  function show(ids) {
    root.hidden = !ids.length;
    const canCompare = ids.length >= 2 && ids.length <= MAX_COMPARED;
    replace(
      root,
      h("b", `${ids.length} chosen`),
      h(
        "a.btn.primary",
        canCompare
          ? { href: link("compare", { run: ids }) }
          : { "aria-disabled": "true", title: `Choose two to ${MAX_COMPARED}` },
        "Compare",
      ),
      guard(act(h("button.btn.ghost", icon("play"), "Run again"), () => again(ids))),
      guard(act(h("button.btn.ghost", "Tag"), () => tag(ids))),
      guard(act(h("button.btn.ghost", icon("trash"), "Delete"), () => remove(ids))),
      h("button.btn.ghost.icon", { "aria-label": "Choose none", onclick: on.clear }, icon("close")),
    );
  }
  return { root, show };
}
