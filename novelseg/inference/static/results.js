/* What the server found in a picture, at any threshold: logits at a bounded size, and the exact mask at the server's own. */

import { Labels } from "./labels.js";
import { inflate, unpack } from "./pack.js";

export const read = async answer => {
  const { width, height, map, threshold, least_presence, presence, expected_iou } = answer;
  return {
    width, height, threshold, least_presence, presence, expected_iou,
    packed: Uint8Array.from(atob(answer.labels), char => char.charCodeAt(0)),
    map: { ...map, logits: new Int8Array((await unpack(map.logits)).buffer) },
  };
};

const classes = result => result.expected_iou.map((_, number) => number + 1);
const isPresent = (result, label, settings) =>
  !result.presence || result.presence[label - 1] >= settings.presence;

/* Certainty of the least certain class: that its mask is right or, where nothing is marked, that there is nothing. */
export const certainty = (result, settings) => Math.min(...classes(result).map(label => {
  const presence = result.presence ? result.presence[label - 1] : 1;
  return isPresent(result, label, settings) ? presence * result.expected_iou[label - 1] : 1 - presence;
}));

/* The logits from which pixels of a class are marked, as the server computes them (`least_logits` in findings.py): at the
   threshold, and where the probability, that of presence included, is large enough. */
const lowest = (result, label, settings) => {
  const least = Math.log(settings.threshold / (1 - settings.threshold)), { slope, offset } = result.map;
  if (!result.presence) return least;
  const needed = Math.min(1 - 1e-12, Math.max(1e-12, settings.presence / Math.max(result.presence[label - 1], 1e-12)));
  return Math.max(least, (Math.log(needed / (1 - needed)) - offset) / slope);
};

/* For each present class, the field that is above 0 where the class wins: above its lowest logit, and above all others that
   are above theirs. */
const fields = (result, settings) => {
  const { logits, step } = result.map, size = result.map.width * result.map.height;
  const present = classes(result).filter(label => isPresent(result, label, settings)).map(label =>
    ({ label, values: logits.subarray((label - 1) * size, label * size), least: step * lowest(result, label, settings) }));
  return present.map(({ label, values, least }) => {
    const field = new Float32Array(size), others = present.filter(other => other.label !== label);
    for (let place = 0; place < size; place++) {
      let best = least;
      for (const other of others) if (other.values[place] > other.least) best = Math.max(best, other.values[place]);
      field[place] = values[place] - best;
    }
    return { label, field };
  });
};

/* The mask at a threshold, of any size. */
export const maskAt = (result, settings, width, height) => {
  const mask = new Labels(width, height), { map } = result;
  for (const { label, field } of fields(result, settings))
    mask.field(field, map.width, map.height, [0, 0, map.width, map.height], label);
  return mask;
};

/* The mask at the size of the picture; the server's own, if the settings are its own. */
export const fullMask = async (result, settings) => {
  if (settings.threshold === result.threshold && settings.presence === result.least_presence)
    return new Labels(result.width, result.height, await inflate(result.packed));
  return maskAt(result, settings, result.width, result.height);
};

/* For each class, its mean calibrated probability inside the mask, times its presence; null without a mask. */
export const scores = (result, settings) => {
  const owner = new Uint16Array(result.map.width * result.map.height);
  for (const { label, field } of fields(result, settings))
    for (let place = 0; place < owner.length; place++) if (field[place] > 0) owner[place] = label;
  return means(result, owner, classes(result));
};

/* The same for each object 1 … N of a mask at the size of the picture; labels: their classes. */
export const objectScores = (result, numbers, labels) => {
  const { map, width, height } = result, owner = new Uint16Array(map.width * map.height);
  for (let y = 0; y < map.height; y++)
    for (let x = 0; x < map.width; x++)
      owner[y * map.width + x] = numbers[Math.floor((y + .5) * height / map.height) * width + Math.floor((x + .5) * width / map.width)];
  return means(result, owner, labels);
};

const means = (result, owner, labels) => {
  const { logits, slope, offset, step } = result.map, count = classes(result).length;
  const sums = new Float64Array(labels.length), cells = new Uint32Array(labels.length), shares = new Float64Array(count);
  for (let place = 0; place < owner.length; place++) {
    const number = owner[place] - 1;
    if (number < 0) continue;
    let total = 1;
    for (let other = 0; other < count; other++) total += shares[other] = Math.exp(slope * logits[other * owner.length + place] / step + offset);
    sums[number] += shares[labels[number] - 1] / total;
    cells[number]++;
  }
  return labels.map((label, number) => cells[number] ? sums[number] / cells[number] * (result.presence ? result.presence[label - 1] : 1) : null);
};
