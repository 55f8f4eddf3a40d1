// The rows of Runs, page by page: runs without the trials of sweeps, and each sweep as one row between them.
import * as api from "../api.js";

const NUM_SWEEPS = 50; // of a page of sweeps

/** Whether sweeps are rows: where the newest come first, and nothing is left out. */
export const hasGroups = ({ status, q, kind, tag, sweep, sort, trials }) =>
  sort === "-created_at" && !(status || q || kind || tag || sweep || trials);

export class Pages {
  #filter;
  #afterRun = null;
  #afterSweep = null;
  #sweeps = []; // rows that were read and stand below the pages so far, the newest first
  #hasRuns = true;
  #hasSweeps;

  /** @param {object} filter {status, q, kind, tag, sweep, sort, trials} */
  constructor(filter) {
    this.#filter = filter;
    this.#hasSweeps = hasGroups(filter);
  }

  get hasMore() {
    return this.#hasRuns || this.#hasSweeps || this.#sweeps.length > 0;
  }

  /** Reads the rows that follow: {rows, counts}, the counts with the first page. A refusal leaves all as it was. */
  async next(limit) {
    const [page] = await Promise.all([this.#readRuns(limit), this.#sweeps.length || this.#readSweeps()]);
    const oldest = page.data.at(-1)?.id;
    while (oldest && this.#hasSweeps && !(this.#sweeps.at(-1)?.id < oldest)) await this.#readSweeps();
    // Ids are UUIDs of version 7, which sort by creation: so does the service sort both lists.
    const last = page.has_more ? oldest : "";
    const sweeps = this.#sweeps.filter((row) => row.id > last);
    this.#sweeps = this.#sweeps.filter((row) => row.id < last);
    this.#afterRun = page.next;
    this.#hasRuns = page.has_more;
    const rows = sweeps.length ? [...page.data, ...sweeps].sort((a, b) => (a.id < b.id ? 1 : -1)) : page.data;
    return { rows, counts: page.counts };
  }

  async #readRuns(limit) {
    if (!this.#hasRuns) return { data: [], has_more: false, next: null };
    return api.listRuns({ ...this.#filter, limit, after: this.#afterRun });
  }

  async #readSweeps() {
    if (!this.#hasSweeps) return;
    const page = await api.sweeps({ limit: NUM_SWEEPS, after: this.#afterSweep });
    this.#sweeps.push(...page.data.map(api.asRow));
    this.#afterSweep = page.next;
    this.#hasSweeps = page.has_more;
  }
}
