// What can be done with a run: which buttons its state allows, and what the server says if it refuses.
import { act, askFirst } from "../acts.js";
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
  const change = (button, work, said) => guard(act(button, async () => (await attempt(work, said)) && onChange()));
  const order = (action, said) =>
    change(h("button.btn", action[0].toUpperCase() + action.slice(1)), () => api.act(run.id, action), said);
  const isFinal = ["succeeded", "failed", "cancelled"].includes(run.status);
  const name = run.name || "This run";
  return [
    run.model_kind === "mlp" && // Train has the knobs of networks
      h("a.btn", { href: link("train", { from: run.id }) }, icon("play"), "Run again with …"),
    ["queued", "running"].includes(run.status) && order("pause", "It pauses at the next epoch."),
    run.status === "paused" && order("resume", "It goes back into the queue."),
    !isFinal && order("cancel", "It is cancelled at the next epoch."),
    run.status === "succeeded" &&
      !isChampion &&
      change(
        h("button.btn.wide", icon("pin"), "Make champion"),
        () => api.pin(run.id),
        `${name} answers from now on, pinned`,
      ),
    run.status === "succeeded" && modelButton("button.btn.wide", run.id),
    isFinal &&
      !run.sweep_id &&
      guard(
        askFirst(h("button.btn.wide", icon("trash"), "Delete"), "Delete for good?", async () => {
          if (await attempt(() => api.remove(run.id), `${name} is deleted`)) location.hash = "#/runs";
        }),
      ),
  ];
}

/** Saves a run's model as a file. */
export const modelButton = (selector, id) =>
  act(h(selector, icon("down"), "ONNX"), () => attempt(async () => download(await api.modelFile(id), `${id}.onnx`)));
