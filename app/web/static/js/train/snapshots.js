// A training's snapshots: the first layer, the mistakes, and the answer to a drawn digit, at the epoch that is shown.

export const NUM_SNAPSHOTS = 16;

/** Returns the snapshot of an epoch: the newest that is not after it. */
export function snapshotAt(page, epoch) {
  return page.data.findLast((each) => each.epoch <= epoch) ?? page.data[0] ?? null;
}

/** What a snapshot gets wrong on val: [{index, label, predicted, confidence}], the most confident first. */
export function mistakesOf(page, snapshot) {
  return page.images
    .map((index, i) => ({
      index,
      label: page.labels[i],
      predicted: snapshot.digits[i],
      confidence: snapshot.confidences[i],
    }))
    .filter((each) => each.label !== each.predicted)
    .sort((a, b) => b.confidence - a.confidence);
}

const ACTIVATIONS = { sigmoid: (x) => 1 / (1 + Math.exp(-x)), tanh: Math.tanh, relu: (x) => Math.max(0, x) };
const SCALES = { byte: 1 / 255, unit: 1 / 16 };

/** Ten probabilities of a network at a snapshot, for 64 pixels: its forward pass, without dropout. */
export function probabilities(config, snapshot, pixels) {
  const activate = ACTIVATIONS[config.model.activation];
  let values = pixels.map((v) => v * SCALES[config.scaling]);
  snapshot.layers.forEach(({ weights, biases }, i) => {
    const sums = weights.map((row, unit) => row.reduce((sum, w, j) => sum + w * values[j], biases[unit]));
    values = i < snapshot.layers.length - 1 ? sums.map(activate) : sums;
  });
  const most = Math.max(...values);
  const powers = values.map((v) => Math.exp(v - most));
  const total = powers.reduce((sum, v) => sum + v, 0);
  return powers.map((v) => v / total);
}
