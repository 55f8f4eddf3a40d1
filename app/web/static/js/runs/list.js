// The rows of Runs: pages by cursor, appended while one scrolls; events change rows in place.
import * as api from "../api.js";
import { store } from "../store.js";
import { watch } from "../stream.js";
import { hasGroups, Pages } from "./pages.js";

const PAGE = 50;
const REFRESH_MS = 1000; // rows in training are read again at most so often
const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const UNCOUNTED = new Set(["metric", "checkpoint", "promoted"]); // events that change no count

export class RunList extends EventTarget {
  rows = [];
  series = new Map();
  hasMore = false;
  counts = null; // of runs by status, with the other filters
  isFirst = false; // whether the first page is here
  #filter = null;
  #pages = null;
  #isLoading = false;
  #dirty = new Set();
  #timer = null;
  #countTimer = null;
  #number = 0; // of the filter: what was asked with another one is out of date
  #wanted = new Set();
  #watched = "";

  constructor() {
    super();
    this.onEvent = ({ detail }) => this.#take(detail);
    store.addEventListener("event", this.onEvent);
  }

  leave() {
    store.removeEventListener("event", this.onEvent);
    clearTimeout(this.#timer);
    clearTimeout(this.#countTimer);
    this.#number += 1;
    watch([]);
  }

  /** Begins anew with this filter: {status, q, kind, tag, sweep, sort, trials}. */
  async open(filter) {
    this.#filter = filter;
    Object.assign(this, { rows: [], hasMore: false, isFirst: false });
    this.#pages = new Pages(filter);
    this.#isLoading = false;
    this.#number += 1;
    await this.more();
  }

  async more() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    const number = this.#number;
    try {
      const { rows, counts } = await this.#pages.next(PAGE);
      if (number !== this.#number) return;
      const known = new Set(this.rows.map((run) => run.id));
      this.rows.push(...rows.filter((run) => !known.has(run.id)));
      if (counts) this.counts = counts;
      this.hasMore = this.#pages.hasMore;
      this.isFirst = true;
      this.#tell();
    } finally {
      if (number === this.#number) this.#isLoading = false;
    }
  }

  /** Reads the small lines of a page's rows at once, as soon as one of them is in sight that has none yet. */
  async wantSeries(first, last) {
    const isWanting = (run) => !run.is_sweep && run.best && !this.#wanted.has(run.id);
    if (!this.rows.slice(first, last).some(isWanting)) return;
    const page = this.rows.slice(first - (first % PAGE), Math.ceil(last / PAGE) * PAGE);
    const ids = page.filter(isWanting).map((run) => run.id);
    for (const id of ids) this.#wanted.add(id);
    for (const [id, series] of Object.entries(await api.series(ids, 24))) this.series.set(id, series);
    this.#tell();
  }

  /** Reads rows again, as after an action on them. */
  refresh(ids) {
    for (const id of ids) this.#dirty.add(id);
    this.#soon(0);
  }

  #take(event) {
    const isListed = !event.sweep_id || this.#filter.trials || this.#filter.sweep;
    if (isListed && !UNCOUNTED.has(event.type)) this.#countTimer ??= setTimeout(() => this.#count(), REFRESH_MS);
    if (event.type === "deleted") {
      const run = this.rows.find((each) => each.id === event.run_id);
      if (run) run.is_deleted = true;
      this.#tell();
    } else if (this.rows.some((run) => run.id === event.run_id)) {
      this.#dirty.add(event.run_id);
      this.#soon(event.type === "metric" ? REFRESH_MS : 50);
    } else if (event.sweep_id) this.#dirtySweep(event);
    else if (event.type === "queued" && this.isFirst) this.#addNewest(event.run_id);
  }

  #dirtySweep({ sweep_id: id, type }) {
    if (type === "sweep_created" && this.isFirst) this.#addNewest(id, true);
    if (!this.rows.some((row) => row.id === id)) return;
    this.#dirty.add(id);
    this.#soon(REFRESH_MS);
  }

  #soon(ms) {
    this.#timer ??= setTimeout(async () => {
      this.#timer = null;
      const ids = [...this.#dirty];
      this.#dirty.clear();
      await this.#read(ids).catch(() => ids.forEach((id) => this.#dirty.add(id))); // the next event asks again
    }, ms);
  }

  async #read(ids) {
    const sweeps = new Set(this.rows.filter((row) => row.is_sweep).map((row) => row.id));
    const runIds = ids.filter((id) => !sweeps.has(id));
    const parts = Array.from({ length: Math.ceil(runIds.length / PAGE) }, (_, i) =>
      runIds.slice(i * PAGE, (i + 1) * PAGE),
    );
    const [runs, found] = await Promise.all([
      Promise.all(parts.map(api.runsById)).then((all) => all.flat()),
      Promise.all(ids.filter((id) => sweeps.has(id)).map((id) => api.sweep(id).catch(() => null))),
    ]);
    const fresh = new Map([...runs, ...found.filter(Boolean).map(api.asRow)].map((row) => [row.id, row]));
    this.rows = this.rows.map((row) => fresh.get(row.id) ?? row);
    for (const run of runs) if (FINAL.has(run.status) || run.status === "running") this.#wanted.delete(run.id);
    this.#tell();
  }

  async #count() {
    this.#countTimer = null;
    const number = this.#number;
    const page = await api.listRuns({ ...this.#filter, limit: 1 }).catch(() => null);
    if (!page || number !== this.#number) return;
    this.counts = page.counts;
    this.#tell();
  }

  async #addNewest(id, isSweep = false) {
    const { trials } = this.#filter;
    if (!hasGroups({ ...this.#filter, trials: false }) || (isSweep && trials)) return;
    const number = this.#number;
    const row = await (isSweep ? api.sweep(id).then(api.asRow) : api.run(id)).catch(() => null);
    if (!row || number !== this.#number || row.sweep_id || this.rows.some((each) => each.id === id)) return;
    const older = this.rows.findIndex((each) => each.id < id); // answers may come in another order
    this.rows = this.rows.toSpliced(older < 0 ? this.rows.length : older, 0, row);
    this.#tell();
  }

  #tell() {
    const running = this.rows.filter((run) => run.status === "running" && !run.is_sweep).map((run) => run.id);
    if (running.join() !== this.#watched) watch(running);
    this.#watched = running.join();
    this.dispatchEvent(new Event("change"));
  }
}
