/* Pictures: how they are added, and how one comes onto the stage. */

import { Labels } from "./labels.js";
import { Regions } from "./regions.js";
import { ask } from "./server.js";
import { forget, keep, keepSettings, maskOf, newPicture, say, state, thumbSize } from "./state.js";

const SMALL = 2048;  // longest side of the copy that is drawn while the whole picture is on the stage
const KEPT_REGIONS = 8;
const SAVE_MS = 150, SAVE_LARGE_MS = 800, LARGE = 4e6;  // px from which saving is felt

let view = null, refresh = () => {};
export const setUp = (stage, redraw) => { view = stage; refresh = redraw; };

let decoded = null;  // the last picture of which a small copy was made, which often comes onto the stage next

/* The picture at its size, as this browser shows it, or else as the server does. */
const imageOf = async picture => {
  if (decoded?.picture === picture) {
    const { image } = decoded;
    decoded = null;
    return image;
  }
  if (!picture.byServer) {
    try {
      const image = await createImageBitmap(picture.file);
      if (!picture.width) Object.assign(picture, { width: image.width, height: image.height });
      if (image.width === picture.width && image.height === picture.height) return image;
      image.close();  // the server turns it in another way
    } catch (error) {
      if (error.name !== "InvalidStateError" && error.name !== "EncodingError") throw error;
    }
    picture.byServer = true;
  }
  const { width, height, view: address } = await ask("open", [["image", picture.file, picture.name], ["view", "1"]]);
  Object.assign(picture, { width, height });
  const image = new Image();
  image.src = address;
  await image.decode();
  return createImageBitmap(image);
};

const reduced = async (image, [width, height]) =>
  image.width <= width ? image : createImageBitmap(image, { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" });

const makeThumb = async picture => {
  const image = await imageOf(picture), size = thumbSize(picture);
  picture.thumb = await createImageBitmap(image, { resizeWidth: size[0], resizeHeight: size[1], resizeQuality: "medium" });
  if (decoded) decoded.image.close();
  decoded = { picture, image };
};

/* Add files; those that the page has already are left out. */
export const add = async (files, example) => {
  const fresh = [], names = new Map(state.pictures.map(picture => [picture.name, picture]));
  let double = 0;
  for (const file of files) {
    const other = names.get(file.name);
    if (other && other.file.size === file.size) { double++; continue; }
    if (other) { say(`${file.name}: another picture has this name; rename one of them`, true); continue; }
    const picture = newPicture(file, example);
    names.set(file.name, picture);
    fresh.push(picture);
  }
  if (example && fresh.length) findRegions(fresh[0]);  // while the browser decodes it
  for (const picture of fresh) {
    try { await makeThumb(picture); } catch (error) {
      picture.error = error.message;
      if (example) { say(error.message, true); continue; }
    }
    state.pictures.push(picture);
    await keep(picture);
    refresh();
  }
  say([fresh.length ? `${fresh.length} added` : "", double ? `${double} already here` : ""].filter(Boolean).join(", "));
  const first = fresh.find(picture => state.pictures.includes(picture));
  if (first && (example || !state.current)) await open(first);
};

/* Small copies of the pictures that were kept. */
export const makeThumbs = async () => {
  for (const picture of state.pictures) {
    if (picture.thumb) continue;
    try { await makeThumb(picture); refresh(); } catch (error) { picture.error ||= error.message; }
  }
};

let turn = 0, timer = 0, saving = Promise.resolve();

/* Keep the picture on the stage now. */
export const save = () => {
  clearTimeout(timer);
  const picture = state.current;
  if (picture?.dirty) saving = saving.then(() => keep(picture)).then(refresh);
  return saving;
};

/* The mask on the stage has changed. */
export const changed = () => {
  Object.assign(state.current, { own: true, dirty: true });
  clearTimeout(timer);
  const { data } = state.current.labels;
  timer = setTimeout(save, data.length < LARGE ? SAVE_MS : SAVE_LARGE_MS);
};

/* Give a picture a mask of its own, perhaps as an example; on the stage, this can be undone. */
export const setMask = async (picture, values, example = false) => {
  const shown = picture === state.current;
  if (shown) {
    const { labels } = picture;
    labels.begin();
    labels.touch([0, 0, labels.width, labels.height]);
    labels.data.set(values);
    labels.commit();
    view.redraw();
  } else picture.labels = new Labels(picture.width, picture.height, values);
  picture.own = true;
  if (example) Object.assign(picture, { example, error: "" });
  await keep(picture);
  if (example) { picture.blank = !picture.painted; await keep(picture); }
  if (!shown && picture !== state.current) picture.labels = null;
  refresh();
};

/* Bring a picture onto the stage; its regions follow. */
export const open = async picture => {
  const mine = ++turn;
  await save();
  let image;
  try { image = await imageOf(picture); } catch (error) { say(error.message, true); return; }
  const scale = Math.min(1, SMALL / Math.max(image.width, image.height));
  const small = await reduced(image, [Math.round(image.width * scale), Math.round(image.height * scale)]);
  const labels = await maskOf(picture);
  while (state.current?.dirty) await save();  // painted on meanwhile
  if (mine !== turn) { image.close(); return; }
  close();
  Object.assign(picture, { labels });
  state.current = picture;
  view.show({ labels, image, small });
  keepSettings();
  refresh();
  findRegions(picture);
};

const close = () => {
  if (state.current) state.current.labels = null;
  for (const image of [view.shown?.image, view.shown?.small]) image?.close();
  view.show(null);
  state.current = null;
};

const findRegions = async picture => {
  if (picture.regions || picture.asked) return;
  picture.asked = true;
  try {
    const answer = await ask("open", [["image", picture.file, picture.name], ["regions", "1"]]);
    picture.regions = await Regions.from(answer.regions);
    const { width, height } = answer;
    if (!picture.width) Object.assign(picture, { width, height });
    if ((width !== picture.width || height !== picture.height) && !picture.own) {  // the server turns it in another way
      Object.assign(picture, { width, height, byServer: true });
      await makeThumb(picture);
      if (picture === state.current) await open(picture);
    }
  } catch (error) { say(error.message, true); return; } finally { picture.asked = false; }
  const others = state.pictures.filter(one => one.regions && one !== picture && one !== state.current);
  for (const one of others.slice(0, Math.max(0, others.length - KEPT_REGIONS))) one.regions = null;
  performance.mark("regions", { detail: picture.name });
  refresh();
};

/* Show the mask of the picture on the stage anew, from its result. */
export const showResult = async () => {
  const picture = state.current;
  if (!picture || picture.own) return;
  picture.labels = null;
  const labels = await maskOf(picture);
  if (picture !== state.current || picture.own) return;
  picture.labels = view.shown.labels = labels;
  view.redraw();
};

/* Take what was found in a picture, corrected or not, as an example; or an example back. */
export const take = async picture => {
  await save();
  if (picture.example) picture.example = false;
  else {
    if (!picture.own) {
      const mask = await maskOf(picture);
      picture.labels ??= mask;
      picture.own = true;
      await keep(picture);
      if (picture !== state.current) picture.labels = null;
    }
    Object.assign(picture, { example: true, error: "" });
    if (!picture.painted) picture.blank = true;  // it shows what is not looked for
  }
  await keep(picture);
  refresh();
};

/* Drop the corrections of a result, or all paint; this can be undone while the picture is on the stage. */
export const reset = async () => {
  const picture = state.current;
  await save();
  Object.assign(picture, { own: false, packed: null, thumbLabels: null, painted: false, labels: null });
  picture.labels = view.shown.labels = picture.result ? await maskOf(picture) : new Labels(picture.width, picture.height);
  view.redraw();
  await keep(picture);
  refresh();
};

export const remove = async picture => {
  await save();
  const order = state.pictures, place = order.indexOf(picture);
  order.splice(place, 1);
  if (picture === state.current) close();
  picture.thumb?.close();
  await forget(picture);
  const next = order.filter(one => one.example === picture.example)[0] ?? order[0];
  if (!state.current && next) await open(next);
  keepSettings();
  refresh();
};
