/* Examples from the files of annotation tools, which the server reads as the command does. */

import { setMask } from "./album.js";
import { unpack } from "./pack.js";
import { ask } from "./server.js";
import { FIRST, say, served, state, UNSURE } from "./state.js";

export const isAnnotation = file => /\.(json|xml|zip|ya?ml|txt)$/i.test(file.name);

/* The names of the classes with further ones; the first class gives way to them if nothing has been done with it. */
const withClasses = names => {
  const fresh = state.classes.length === 1 && state.classes[0] === FIRST && !state.pictures.some(picture => picture.own || picture.result);
  return [...new Set([...(fresh ? [] : state.classes), ...names])];
};

/* Take the annotated pictures, which the page must have, as examples; returns whether it did. */
export const annotate = async files => {
  const pictures = new Map(state.pictures.filter(picture => picture.width).map(picture => [picture.name, picture]));
  const sizes = [...pictures.values()].map(({ name, width, height }) => ({ name, width, height }));
  try {
    const answer = await ask("labels", [["pictures", JSON.stringify(sizes)], ...files.map(file => ["labels", file, file.name])]);
    const classes = withClasses(answer.classes), table = new Uint8Array(256);
    if (classes.length > served.colours.length) throw new Error(`${classes.length} classes; expected 1 to ${served.colours.length}, the numbers that a mask can hold`);
    table[UNSURE] = UNSURE;
    answer.numbers.forEach((number, place) => { table[number] = classes.indexOf(answer.classes[place]) + 1; });
    state.classes = classes;
    state.active = Math.min(state.active, classes.length);
    for (const { name, labels } of answer.pictures) {
      const values = await unpack(labels);
      if (state.pictures.includes(pictures.get(name))) await setMask(pictures.get(name), values.map(value => table[value]), true);
    }
    const count = answer.pictures.length;
    say(`${count} ${count === 1 ? "example" : "examples"} of ${answer.classes.join(", ")} from ${files[0].name}${files.length > 1 ? " and others" : ""}`);
    return true;
  } catch (error) { say(error.message, true); return false; }
};
