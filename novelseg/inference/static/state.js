/* What the page knows, and how it is kept. */

import { deflate, inflate } from "./pack.js";
import { Labels } from "./labels.js";
import { fullMask, maskAt } from "./results.js";
import * as store from "./store.js";

export const by = id => document.getElementById(id);
export const served = JSON.parse(by("settings").textContent);
export const UNSURE = 255;
export const FIRST = "object";  // name of the class that the page begins with
const GREY = [128, 128, 128];
const THUMB = 320;  // longest side of a small copy, px

export const state = {
  classes: [FIRST],
  active: 1,             // number of the class that is painted
  threshold: served.threshold,
  presence: served.presence,
  pictures: [],
  current: null,         // the picture on the stage
  running: null,         // AbortController of the present run
};

export const colour = label => label === UNSURE ? GREY : served.colours[label - 1];
export const bright = label => colour(label).map(value => Math.round(.45 * value + .55 * 255));  // of borders
export const css = label => `rgb(${colour(label).join(" ")})`;

/* A picture: `own` says that its mask was painted or corrected here, and is kept in `packed`; else that of its result
   counts. `labels` is its mask while it is on the stage. */
export const newPicture = (file, example) => ({
  id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`, added: Date.now() + state.pictures.length / 1000,
  name: file.name, file, example, blank: false, own: false, packed: null, labels: null, thumbLabels: null,
  painted: false, width: 0, height: 0, thumb: null, byServer: false, result: null, error: "", regions: null, asked: false, dirty: false,
});

export const thumbSize = picture => {
  const scale = Math.min(1, THUMB / Math.max(picture.width, picture.height));
  return [Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale))];
};

/* The mask of a picture at its full size. */
export const maskOf = async picture => {
  if (picture.labels) return picture.labels;
  if (picture.own && picture.packed) return new Labels(picture.width, picture.height, await inflate(picture.packed));
  if (picture.result) return fullMask(picture.result, state);
  return new Labels(picture.width, picture.height);
};

/* The mask of a picture at the size of its small copy; null if it has none. */
export const thumbMask = picture => {
  if (picture.own) return picture.thumbLabels;
  return picture.result ? maskAt(picture.result, state, ...thumbSize(picture)).data : null;
};

const record = picture => {
  const { id, added, name, file, example, blank, own, packed, thumbLabels, width, height, byServer, result, error } = picture;
  return { id, added, name, file, example, blank, own, packed, thumbLabels, painted: picture.painted, width, height, byServer, result, error };
};

let lost = false;
const warn = error => {
  if (!lost) say(`this browser does not keep the pictures (${error.message ?? error.name}); export before you leave the page`, true);
  lost = true;
};

/* Keep a picture in the browser's storage, with the mask that is on the stage. */
export const keep = async picture => {
  picture.dirty = false;
  if (picture.labels && picture.own) {
    const { labels } = picture, packed = await deflate(labels.data);
    picture.packed = packed;
    picture.painted = labels.painted;
    picture.thumbLabels = labels.reduced(...thumbSize(picture));
  }
  try { await store.putPicture(record(picture)); } catch (error) { warn(error); }
};

export const keepSettings = async () => {
  const { classes, active, threshold, presence, current } = state;
  try { await store.putSettings({ classes: [...classes], active, threshold, presence, current: current?.id ?? null }); } catch (error) { warn(error); }
};

export const forget = picture => store.removePicture(picture.id);
export const forgetAll = () => store.clear();

/* Restore what was kept; returns the id of the picture that was on the stage. */
export const restore = async () => {
  if (!await store.open()) { warn(new Error("its storage is closed")); return null; }
  const settings = await store.settings(), records = await store.pictures();
  if (settings) Object.assign(state, { ...settings, current: null });
  records.sort((one, other) => one.added - other.added);
  state.pictures = records.map(one => ({ ...newPicture(one.file, one.example), ...one }));
  return settings?.current ?? null;
};

/* One line about what happens now; and a list of errors, each of which stays until it is closed. */
export const say = (text, isError = false) => {
  if (!isError) { by("state").textContent = text; return; }
  if ([...by("errors").children].some(line => line.dataset.text === text)) return;
  const line = document.createElement("p"), close = document.createElement("button");
  line.dataset.text = line.textContent = text;
  Object.assign(close, { type: "button", textContent: "×", ariaLabel: "Close", onclick: () => line.remove() });
  line.append(close);
  by("errors").append(line);
};
