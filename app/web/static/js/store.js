// What every view knows: counts, the champion, what is the matter. Events change it; views are told once a frame.
import * as api from "./api.js";
import { onceAFrame } from "./dom.js";

const ENDS = new Set(["succeeded", "failed", "cancelled", "deleted"]);
const NO_WORKER = "No worker is alive: nothing is trained. Start one with `digitlab worker`.";
const COUNTED = ["running", "queued"];

class Store extends EventTarget {
  isLoaded = false;
  champion = null;
  warnings = [];
  connection = { isLost: false, since: 0, retry: () => {} };
  states = new Map(); // run id → "running" or "queued"
  #tell = onceAFrame(() => this.dispatchEvent(new Event("change")));
  #refresh = null;

  get counts() {
    const counts = { running: 0, queued: 0 };
    for (const state of this.states.values()) counts[state] += 1;
    return counts;
  }

  /** Reads everything anew: at the start, and after a connection was lost for too long. */
  async load() {
    const [champion, activity] = await Promise.all([api.champion(), api.activity()]);
    this.champion = champion;
    this.states = new Map(activity.runs.map((run) => [run.id, run.status]));
    this.isLoaded = true;
    this.#tell();
    await this.lookAtHealth();
  }

  async lookAtHealth() {
    // Without a champion the service is not ready, which is no news here: the workers alone are looked at.
    if (this.champion) this.warnings = (await api.health())?.causes ?? [];
    else this.warnings = (await api.workers()).data.length ? [] : [NO_WORKER];
    this.#tell();
  }

  /** Takes an event of the stream; views get it too, by "event". */
  take(event) {
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
    const state = event.data?.status ?? event.type;
    if (event.type === "metric" || event.type === "checkpoint") return;
    if (event.type === "promoted") this.#loadChampion();
    else if (ENDS.has(event.type) || event.type === "paused") this.states.delete(event.run_id);
    else if (event.type === "started") this.states.set(event.run_id, "running");
    else if (COUNTED.includes(state)) this.states.set(event.run_id, state);
    this.#tell();
  }

  setConnection(changes) {
    Object.assign(this.connection, changes);
    this.#tell();
  }

  #loadChampion() {
    this.#refresh ??= api.champion().then((champion) => {
      this.champion = champion;
      this.dispatchEvent(new Event("champion"));
      this.#tell();
    }, () => {}).finally(() => (this.#refresh = null));
  }
}

export const store = new Store();
