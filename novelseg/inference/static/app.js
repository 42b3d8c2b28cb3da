/* The page: what its buttons and keys do. */

import * as album from "./album.js";
import { annotate, isAnnotation } from "./annotations.js";
import { unpack } from "./pack.js";
import { drawClasses, drawPictures, examples, results } from "./panel.js";
import { exportMasks, segment } from "./run.js";
import { ask } from "./server.js";
import { bright, by, colour, forgetAll, keep, keepSettings, maskOf, restore, say, served, state, UNSURE } from "./state.js";
import { Tools, TOOLS } from "./tools.js";
import { View } from "./view.js";

const view = new View(by("stage"), colour, bright);
const labels = () => state.current?.labels ?? null;

const tools = new Tools(view, {
  labels,
  regions: () => state.current?.regions ?? null,
  label: () => state.active,
  edited: box => view.drawMask(box),
  edit: work => {
    const mask = labels();
    if (work) { mask.begin(); view.drawMask(work()); }
    if (mask.commit()) { album.changed(); drawBar(); }
  },
  takeBack: () => history("undo"),
  changed: () => drawTools(),
});

const drawTools = () => {
  for (const button of document.querySelectorAll("[data-tool][title]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tools.name));
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(tools.name);
  by("size").value = tools.radius;
  by("level").value = tools.strength;
};

const drawBar = () => {
  const picture = state.current, mask = labels();
  by("bar").classList.toggle("empty", !picture);
  by("empty").hidden = Boolean(picture);
  by("zoom").hidden = !picture;
  view.stage.classList.toggle("empty", !picture);
  by("undo").disabled = !mask?.past.length;
  by("redo").disabled = !mask?.future.length;
  if (!picture) return;
  by("name").textContent = picture.name;
  by("take").textContent = picture.example ? "Not an example" : "Use as example";
  by("take").className = !picture.example && picture.own ? "primary" : "";
  by("take").hidden = !(picture.example || picture.own || picture.result);
  by("reset").hidden = !(picture.own && picture.result);
  by("blank-label").hidden = !picture.example || picture.painted;
  by("blank").checked = picture.blank;
  by("numbers-label").hidden = state.classes.length < 2;
  let count = 0;
  for (const label of mask?.reduced(...shrunk(mask)) ?? []) count += label > 0 && label < UNSURE;
  const share = mask ? 100 * count / shrunk(mask).reduce((one, other) => one * other) : 0;
  const waits = tools.name === "region" && !picture.regions ? ", finding regions …" : "";
  by("painted").textContent = `${share.toFixed(1)} % ${picture.own || !picture.result ? "painted" : "found"}${waits}`;
};
const shrunk = mask => {
  const scale = Math.min(1, 400 / Math.max(mask.width, mask.height));
  return [Math.max(1, Math.round(mask.width * scale)), Math.max(1, Math.round(mask.height * scale))];
};

let drawn = 0;
const refresh = () => {
  cancelAnimationFrame(drawn);
  drawn = requestAnimationFrame(() => { drawPictures(actions); drawBar(); tools.hoverRegion(); tools.draw(); });
};
album.setUp(view, refresh);

const history = way => {
  const mask = labels();
  if (!mask?.[way]()) return;
  view.redraw();
  album.changed();
  drawBar();
};

const actions = {
  open: album.open,
  take: album.take,
  activate: label => { state.active = label; drawClasses(actions); keepSettings(); },
  rename: (label, name) => {
    const given = name.trim();
    if (!given || state.classes.some((other, number) => other === given && number !== label - 1)) say(`a class needs a name of its own; '${given}' is ${given ? "taken" : "empty"}`, true);
    else state.classes[label - 1] = given;
    drawClasses(actions);
    keepSettings();
  },
  removeClass: async () => {
    await album.save();
    const label = state.classes.length;
    for (const picture of state.pictures)
      if (picture.own && (await maskOf(picture)).data.includes(label)) { say(`${state.classes[label - 1]} is painted on ${picture.name}; erase it there first`, true); return; }
    state.classes.pop();
    state.active = Math.min(state.active, state.classes.length);
    for (const picture of state.pictures) if (!picture.own && picture.result?.expected_iou.length >= label) { picture.result = null; await keep(picture); }
    await album.showResult();
    drawClasses(actions);
    keepSettings();
    refresh();
  },
};

const addClass = () => {
  if (state.classes.length >= served.colours.length) { say(`${served.colours.length} classes are the most that a mask can hold`, true); return; }
  let number = state.classes.length + 1;
  while (state.classes.includes(`class ${number}`)) number++;
  state.classes.push(`class ${number}`);
  actions.activate(state.classes.length);
  refresh();
  by("classes").querySelector("li.active input").select();
};

/* The server reads the mask of a file, as the command does; it can be painted on afterwards. */
const loadMask = async file => {
  const picture = state.current, mask = labels(), classes = by("numbers").checked && state.classes.length > 1 ? state.classes.length : 0;
  try {
    const sent = await ask("mask", [["mask", file, file.name], ["classes", classes]]);
    if (sent.width !== mask.width || sent.height !== mask.height) throw new Error(`${file.name}: the mask is ${sent.width}×${sent.height} px, its picture ${mask.width}×${mask.height}; make them equal`);
    if (!state.pictures.includes(picture)) return;
    const values = await unpack(sent.labels), active = Math.min(state.active, state.classes.length);
    await album.setMask(picture, classes ? values : values.map(value => value === 1 ? active : value));
    say(`${file.name} is the mask of ${picture.name}${sent.note ? `: ${sent.note}` : ""}`);
  } catch (error) { say(error.message, true); }
};

const on = (id, kind, work) => by(id).addEventListener(kind, work);
const files = (id, work) => on(id, "change", event => {
  const chosen = [...event.target.files];  // a copy, since the next line empties the original
  event.target.value = "";  // so that the same file can be chosen again
  if (chosen.length) work(chosen);
});
/* Pictures, and annotations of pictures that are there or come with them. */
const receive = async (chosen, example) => {
  const pictures = chosen.filter(file => !isAnnotation(file)), labels = chosen.filter(isAnnotation);
  if (pictures.length) await album.add(pictures, example);
  if (labels.length && await annotate(labels)) { drawClasses(actions); keepSettings(); refresh(); }
};
files("first", chosen => receive(chosen, true));
files("supports", chosen => receive(chosen, true));
files("queries", chosen => receive(chosen, false));
files("mask", ([file]) => loadMask(file));
on("undo", "click", () => history("undo"));
on("redo", "click", () => history("redo"));
on("size", "input", event => tools.resize(event.target.value / tools.radius));
on("level", "input", event => tools.setStrength(Number(event.target.value)));
on("close-polygon", "click", () => tools.finish());
on("zoom-in", "click", () => view.zoom(1.4));
on("zoom-out", "click", () => view.zoom(1 / 1.4));
on("zoom-fit", "click", () => view.fit());
on("take", "click", () => album.take(state.current));
on("reset", "click", () => album.reset());
on("clear", "click", () => {
  const mask = labels();
  mask.begin();
  mask.touch([0, 0, mask.width, mask.height]);
  mask.data.fill(0);
  if (mask.commit()) album.changed();
  view.redraw();
  drawBar();
});
on("remove", "click", () => album.remove(state.current));
on("blank", "change", event => { state.current.blank = event.target.checked; keep(state.current).then(refresh); });
on("add-class", "click", addClass);
on("go", "click", () => segment(refresh));
on("cancel", "click", () => state.running?.abort());
on("export", "click", () => exportMasks(refresh));
on("restart", "click", async () => {
  if (!confirm("Remove all pictures and masks from this browser?")) return;
  state.pictures = [];
  await forgetAll();
  location.reload();
});
for (const name of ["threshold", "presence"]) {
  on(name, "input", event => { state[name] = Number(event.target.value); album.showResult(); refresh(); });
  on(name, "change", keepSettings);
}
for (const button of document.querySelectorAll("button[data-tool]")) button.addEventListener("click", () => { tools.choose(button.dataset.tool); drawBar(); });
for (const name of served.formats) by("format").append(new Option(name, name, name === "coco", name === "coco"));

for (const area of document.querySelectorAll("[data-drop]")) {
  area.addEventListener("dragover", event => { event.preventDefault(); area.classList.add("over"); });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", event => {
    event.preventDefault();
    area.classList.remove("over");
    receive([...event.dataTransfer.files], area.dataset.drop === "supports");
  });
}
for (const kind of ["dragover", "drop"]) addEventListener(kind, event => event.preventDefault());  // outside the areas too

/* Keys: not while a text is written or a dialog is open. */
const step = by => {
  const order = [...examples(), ...results()], place = order.indexOf(state.current);
  const next = order[(place + by + order.length) % order.length];
  if (next) album.open(next);
};
const keys = {
  "?": () => by("help").showModal(),
  "+": () => view.zoom(1.4), "=": () => view.zoom(1.4), "-": () => view.zoom(1 / 1.4),
  n: () => step(1), k: () => step(-1),
  t: () => { if (!by("take").hidden && state.current) album.take(state.current); },
  s: () => { if (!by("go").disabled) segment(refresh); },
  ...Object.fromEntries(Object.entries(TOOLS).map(([name, { key }]) => [key, () => { tools.choose(name); drawBar(); }])),
};
addEventListener("keydown", event => {
  if (event.target.matches("input[type=text], select, dialog *") || by("help").open) return;
  const control = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
  if (control && key === "z") history(event.shiftKey ? "redo" : "undo");
  else if (control && key === "y") history("redo");
  else if (control && key === "0") view.fit();
  else if (event.target === view.stage && tools.key(event)) { /* done */ }
  else if (control || event.altKey) return;
  else if (event.key === " " && event.target === view.stage) tools.space = true;
  else if (/^\d$/.test(key) && !event.repeat) {
    const label = key === "0" ? UNSURE : Number(key);
    if (label !== UNSURE && label > state.classes.length) return;
    actions.activate(label);
  } else if (event.key === "[" || event.key === "]") tools.key(event);
  else if (key in keys && !event.target.matches("input[type=range]")) keys[key]();
  else return;
  event.preventDefault();
});
addEventListener("keyup", event => { if (event.key === " ") tools.space = false; });
on("help-open", "click", keys["?"]);
addEventListener("beforeunload", event => { if (state.current?.dirty) { album.save(); event.preventDefault(); } });
document.addEventListener("visibilitychange", () => { if (document.hidden) album.save(); });

tools.choose("brush");
drawClasses(actions);
drawBar();
const last = await restore();
drawClasses(actions);
refresh();
document.documentElement.dataset.ready = "true";
const picture = state.pictures.find(one => one.id === last) ?? state.pictures[0];
if (picture) await album.open(picture);
await album.makeThumbs();
