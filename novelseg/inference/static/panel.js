/* The panel: classes, examples and results, drawn anew from the state. */

import { certainty } from "./results.js";
import { bright, by, colour, css, state, thumbMask, thumbSize, UNSURE } from "./state.js";

const element = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};
const percent = share => `${Math.round(100 * share)} %`;

export const certaintyOf = picture => picture.result ? certainty(picture.result, state) : null;

/* Pictures in the order of the page: examples as they were added; then errors, results with the least certain first,
   what is not yet segmented, and what was corrected. */
export const examples = () => state.pictures.filter(picture => picture.example);
export const results = () => {
  const rank = picture => picture.error ? 0 : picture.own ? 3 : picture.result ? 1 : 2;
  return state.pictures.filter(picture => !picture.example).sort((one, other) =>
    rank(one) - rank(other) || (rank(one) === 1 ? certaintyOf(one) - certaintyOf(other) : 0) || one.added - other.added);
};

export const drawClasses = actions => {
  by("classes").replaceChildren(...[...state.classes.map((name, number) => [number + 1, name]), [UNSURE, "unsure, does not count"]].map(([label, name]) => {
    const key = label === UNSURE ? "0" : label < 10 ? String(label) : "";
    const swatch = element("button", { type: "button", className: "swatch", ariaPressed: String(state.active === label), title: `paint ${name}`, onclick: () => actions.activate(label) },
      element("i"), ...(key ? [element("kbd", { textContent: key })] : []));
    swatch.setAttribute("aria-label", `paint ${name}`);
    swatch.style.setProperty("--swatch", css(label));
    const line = element("li", { className: state.active === label ? "active" : "" }, swatch);
    if (label === UNSURE) line.append(element("span", { className: "hint", textContent: name }));
    else {
      line.append(element("input", { type: "text", value: name, ariaLabel: `name of class ${label}`, onchange: event => actions.rename(label, event.target.value) }));
      if (label === state.classes.length && label > 1)
        line.append(element("button", { type: "button", className: "quiet", textContent: "×", ariaLabel: `remove ${name}`, onclick: () => actions.removeClass() }));
    }
    return line;
  }));
};

/* Draw the small copy of a card with its mask, if either has changed. */
const drawThumb = (known, picture) => {
  const settings = !picture.own && picture.result ? [picture.result, state.threshold, state.presence] : [picture.own && picture.thumbLabels];
  const version = [picture.thumb, ...settings];
  if (known.version?.length === version.length && version.every((value, number) => value === known.version[number])) return;
  known.version = version;
  const { canvas } = known, [width, height] = thumbSize(picture), context = canvas.getContext("2d", { willReadFrequently: true });
  const labels = known.labels = thumbMask(picture);
  canvas.width = width;
  canvas.height = height;
  if (!picture.thumb) return;
  context.drawImage(picture.thumb, 0, 0, width, height);
  if (!labels || labels.length !== width * height) return;
  const content = context.getImageData(0, 0, width, height), { data } = content;
  for (let y = 0, place = 0; y < height; y++)
    for (let x = 0; x < width; x++, place++) {
      const label = labels[place];
      if (!label) continue;
      const inner = x > 0 && y > 0 && labels[place - 1] === label && labels[place - width] === label && labels[place + 1] === label && labels[place + width] === label;
      const tint = inner ? colour(label) : bright(label), share = inner ? .45 : 1;
      for (let channel = 0; channel < 3; channel++)
        data[4 * place + channel] = data[4 * place + channel] * (1 - share) + tint[channel] * share;
    }
  context.putImageData(content, 0, 0);
};

const caption = (picture, labels, actions) => {
  const lines = [element("b", { textContent: picture.name, title: picture.name })];
  if (picture.error) lines.push(element("span", { className: "error", textContent: picture.error }));
  if (picture.example) {
    if (!picture.painted && !picture.blank) lines.push(element("span", { className: "hint", textContent: "nothing painted yet" }));
    if (!picture.painted && picture.blank) lines.push(element("span", { className: "badge", textContent: "shows none of it" }));
    return element("figcaption", {}, ...lines);
  }
  if (picture.own) lines.push(element("span", { className: "badge", textContent: "corrected" }));
  else if (picture.result) {
    const share = certaintyOf(picture), meter = element("span", { className: "meter", title: "certainty" }, element("i"), `${percent(share)} certain`);
    meter.style.setProperty("--share", `${100 * share}%`);
    meter.style.setProperty("--tone", share < .4 ? "var(--bad)" : "var(--accent)");
    lines.push(meter);
    if (labels && !labels.some(label => label)) lines.push(element("span", { className: "hint", textContent: "nothing found" }));
  }
  if (picture.own || picture.result)
    lines.push(element("button", { type: "button", textContent: "Use as example", className: picture.own ? "primary" : "", onclick: () => actions.take(picture) }));
  return element("figcaption", {}, ...lines);
};

const cards = new Map();  // id → { figure, canvas }: kept, so that the focus stays

const card = (picture, actions) => {
  let known = cards.get(picture.id);
  if (!known) {
    const canvas = element("canvas"), open = element("button", { type: "button", onclick: () => actions.open(picture) }, canvas);
    open.setAttribute("aria-label", `open ${picture.name}`);
    known = { figure: element("figure", {}, open, element("figcaption")), canvas };
    known.figure.dataset.name = picture.name;
    cards.set(picture.id, known);
  }
  const { figure } = known;
  figure.classList.toggle("current", picture === state.current);
  drawThumb(known, picture);
  const focused = figure.querySelector("figcaption").contains(document.activeElement);
  figure.replaceChild(caption(picture, known.labels, actions), figure.lastChild);
  if (focused) figure.querySelector("figcaption button")?.focus();
  return figure;
};

const place = (container, figures) => {
  figures.forEach((figure, number) => { if (container.children[number] !== figure) container.insertBefore(figure, container.children[number] ?? null); });
  while (container.children.length > figures.length) container.lastChild.remove();
};

export const drawPictures = actions => {
  const known = new Set(state.pictures.map(picture => picture.id));
  for (const id of cards.keys()) if (!known.has(id)) cards.delete(id);
  place(by("examples"), examples().map(picture => card(picture, actions)));
  place(by("results"), results().map(picture => card(picture, actions)));
  const found = state.pictures.some(picture => picture.result && !picture.example);
  by("sliders").hidden = by("order").hidden = !found;
  by("go").textContent = found ? "Segment again" : "Segment";
  by("go").disabled = Boolean(state.running) || !canSegment();
  by("export").disabled = Boolean(state.running) || !state.pictures.some(picture => picture.own || picture.result);
  for (const name of ["threshold", "presence"]) {
    by(name).value = state[name];
    by(`${name}-value`).textContent = Number(state[name]).toFixed(2);
  }
};

export const ready = picture => picture.example && (picture.painted || picture.blank);
export const waiting = () => results().filter(picture => !picture.own);
export const canSegment = () => state.pictures.some(ready) && waiting().length > 0;
