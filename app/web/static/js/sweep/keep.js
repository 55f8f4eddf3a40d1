// The ranges that are kept on the axes of parallel coordinates; they stand in the address as `keep=path:lo..hi`.
import { read, setState } from "../address.js";

const written = (v) => Number(v.toPrecision(4));

export class Kept extends EventTarget {
  #ranges = new Map(); // path → [lo, hi]

  /** @param {string[]} paths of the axes; ranges of others are left out */
  constructor(paths) {
    super();
    for (const text of read().state.getAll("keep")) {
      const [, path, lo, hi] = /^(.*):(.+)\.\.(.+)$/.exec(text) ?? [];
      const range = [Number(lo), Number(hi)];
      if (paths.includes(path) && range.every(Number.isFinite)) this.#ranges.set(path, range);
    }
  }

  get(path) {
    return this.#ranges.get(path) ?? null;
  }

  get entries() {
    return [...this.#ranges];
  }

  /** Keeps a range, rounded as it is written; null: all of this axis. */
  set(path, range) {
    if (range) this.#ranges.set(path, range.map(written));
    else this.#ranges.delete(path);
    this.#tell();
  }

  clear() {
    this.#ranges.clear();
    this.#tell();
  }

  #tell() {
    setState({ keep: this.entries.map(([path, [lo, hi]]) => `${path}:${lo}..${hi}`) });
    this.dispatchEvent(new Event("change"));
  }
}
