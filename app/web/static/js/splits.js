// How many val images a run was measured on, by the splits that runs have used, and what that says about its accuracy.
import * as api from "./api.js";

const known = new Map(); // dataset and split → images in val

const keyOf = (dataset, { val_size, test_size, seed }, fold, of) =>
  [dataset, val_size, test_size, seed, fold, of].join();
const keyOfConfig = ({ dataset, split }) => keyOf(dataset, split, split.fold?.number ?? 0, split.fold?.of ?? 1);

/** Asks the service about the splits of these configurations, unless it has told them before. */
export async function readSplits(configs) {
  const unknown = configs.filter((config) => !known.has(keyOfConfig(config)));
  for (const name of new Set(unknown.map((config) => config.dataset))) {
    const { splits } = await api.dataset(name);
    for (const each of splits) known.set(keyOf(name, each, each.fold, each.num_folds), each.num_val);
  }
}

/** The number of images in a configuration's val split; null: not known yet. */
export const numVal = (config) => known.get(keyOfConfig(config)) ?? null;

/** The standard error of a share of n images. */
export const standardError = (p, n) => Math.sqrt((p * (1 - p)) / n);

/** A val accuracy's standard error in points, as it stands behind the accuracy. */
export const plusMinus = (p, n) => n !== null && ` ± ${(standardError(p, n) * 100).toFixed(1)}`;
