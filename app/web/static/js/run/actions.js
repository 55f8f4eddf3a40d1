// What can be done with a run: which buttons its state allows, and what the server says if it refuses.
import { link } from "../address.js";
import * as api from "../api.js";
import { download, h, toast } from "../dom.js";
import { icon } from "../icons.js";
import { guard } from "../keys.js";

/** Calls the service; a refusal is shown in its words. Returns whether it went well. */
export async function attempt(work, said) {
  try {
    const result = await work();
    if (said) toast(typeof said === "function" ? said(result) : said);
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

export function runButtons(run, isChampion, onChange) {
  const change = (action, said) =>
    guard(
      h(
        "button.btn",
        { onclick: async () => (await attempt(() => api.act(run.id, action), said)) && onChange() },
        action[0].toUpperCase() + action.slice(1),
      ),
    );
  const isFinal = ["succeeded", "failed", "cancelled"].includes(run.status);
  return [
    run.model_kind === "mlp" && // Train has the knobs of networks
      h("a.btn", { href: link("train", { from: run.id }) }, icon("play"), "Run again with …"),
    ["queued", "running"].includes(run.status) && change("pause", "It pauses at the next epoch."),
    run.status === "paused" && change("resume", "It goes back into the queue."),
    !isFinal && change("cancel", "It is cancelled at the next epoch."),
    run.status === "succeeded" &&
      !isChampion &&
      guard(
        h(
          "button.btn.wide",
          {
            onclick: async () =>
              (await attempt(() => api.pin(run.id), `${run.name || "This run"} answers from now on, pinned`)) &&
              onChange(),
          },
          icon("pin"),
          "Make champion",
        ),
      ),
    run.status === "succeeded" &&
      h(
        "button.btn.wide",
        { onclick: () => attempt(async () => download(await api.modelFile(run.id), `${run.id}.onnx`)) },
        icon("down"),
        "ONNX",
      ),
    isFinal && !run.sweep_id && guard(deleteButton(run)),
  ];
}

/** Asks once more before it deletes. */
function deleteButton(run) {
  let isArmed = false;
  const label = h("span", "Delete");
  const button = h(
    "button.btn.wide",
    {
      onclick: async () => {
        if (!isArmed) {
          isArmed = true;
          label.textContent = "Delete for good?";
          return;
        }
        if (await attempt(() => api.remove(run.id), `${run.name || "The run"} is deleted`)) location.hash = "#/runs";
      },
      onblur: () => {
        isArmed = false;
        label.textContent = "Delete";
      },
    },
    icon("trash"),
    label,
  );
  return button;
}
