// What every view knows: counts, the champion, what is the matter. Events change it; views are told once a frame.
import * as api from "./api.js";
import { onceAFrame } from "./dom.js";

const NO_WORKER = "No worker is alive: nothing is trained. Start one with `digitlab worker`.";
const COUNT_MS = 1000; // counts are read again at most so often
const UNCOUNTED = new Set(["metric", "checkpoint", "promoted"]);

class Store extends EventTarget {
  isLoaded = false;
  champion = null;
  counts = { running: 0, queued: 0 };
  warnings = [];
  connection = { isLost: false, since: 0, retry: () => {} };
  #tell = onceAFrame(() => this.dispatchEvent(new Event("change")));
  #timer = null;
  #loading = null;

  /** Reads everything anew: at the start, and after a connection was lost. */
  async load() {
    const [champion, { counts }] = await Promise.all([api.champion(), api.activity(1)]);
    const isOther = champion?.model.run_id !== this.champion?.model.run_id;
    Object.assign(this, { champion, counts, isLoaded: true });
    if (isOther) this.dispatchEvent(new Event("champion"));
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
    if (event.type === "promoted") this.#loadChampion();
    if (UNCOUNTED.has(event.type)) return;
    this.#timer ??= setTimeout(
      async () => {
        this.#timer = null;
        const found = await api.activity(1).catch(() => null);
        if (found) this.counts = found.counts;
        this.#tell();
      },
      this.counts.running + this.counts.queued ? COUNT_MS : 0,
    );
  }

  /** The service answers again, or this tab has a key now: reads everything anew and tells the views, by "back". */
  comeBack() {
    this.setConnection({ isLost: false });
    this.load().catch(() => {});
    this.dispatchEvent(new Event("back"));
  }

  setConnection(changes) {
    Object.assign(this.connection, changes);
    this.#tell();
  }

  #loadChampion() {
    this.#loading ??= api
      .champion()
      .then((champion) => {
        this.champion = champion;
        this.dispatchEvent(new Event("champion"));
        this.#tell();
        return this.lookAtHealth();
      })
      .catch(() => {})
      .finally(() => (this.#loading = null));
  }
}

export const store = new Store();
