/* Requests about all pictures: segment them, and export their masks. */

import { save, showResult } from "./album.js";
import { certaintyOf, ready, results, waiting } from "./panel.js";
import { png, unpack } from "./pack.js";
import { objectScores, read, scores } from "./results.js";
import { ask, askFile } from "./server.js";
import { by, keep, maskOf, say, state } from "./state.js";

const maskFile = async picture => {
  const labels = await maskOf(picture);
  return png(labels.data, picture.width, picture.height);
};

/* Do work that can be cancelled, one picture after the other; returns whether it came to its end. */
const running = async (refresh, work) => {
  state.running = new AbortController();
  const progress = by("progress");
  by("cancel").hidden = progress.hidden = false;
  progress.removeAttribute("value");
  refresh();
  try {
    await save();
    await work(state.running.signal, (done, all) => { progress.max = all; progress.value = done; });
  } catch (error) {
    if (state.running.signal.aborted) say("cancelled; what was done is kept");
    else { say(""); say(error.message, true); }
  }
  state.running = null;
  by("cancel").hidden = progress.hidden = true;
  refresh();
};

export const segment = refresh => running(refresh, async (signal, report) => {
  const supports = state.pictures.filter(ready), pictures = waiting();
  say(`learning from ${supports.length} ${supports.length === 1 ? "example" : "examples"} …`);
  const fields = state.classes.map(name => ["class", name]);
  for (const picture of supports) {
    fields.push(["image", picture.file, picture.name]);
    fields.push(["mask", await maskFile(picture), `${picture.name}.png`]);
  }
  const { round } = await ask("fit", fields, signal);
  let done = 0, refused = 0;
  for (const picture of pictures) {
    report(done, pictures.length);
    say(`${done} of ${pictures.length} done`);
    if (!state.pictures.includes(picture) || picture.own) { done++; continue; }  // removed or corrected meanwhile
    try {
      const result = await read(await ask("segment", [["image", picture.file, picture.name], ["round", round]], signal));
      if (!picture.own) {
        const resized = result.width !== picture.width || result.height !== picture.height;
        Object.assign(picture, { result, error: "", width: result.width, height: result.height }, resized ? { byServer: true } : {});
        await keep(picture);
        if (picture === state.current && !resized) await showResult();
      }
    } catch (error) {
      if (signal.aborted) throw error;
      picture.error = error.message;
      refused++;
      await keep(picture);
    }
    done++;
    refresh();
  }
  say(`${done - refused} of ${done} done${refused ? `, ${refused} refused` : ""}`);
});

export const exportMasks = refresh => running(refresh, async (signal, report) => {
  const examples = by("with-examples").checked ? state.pictures.filter(ready) : [];
  const pictures = [...examples, ...results().filter(picture => picture.own || picture.result)];
  const request = { formats: [by("format").value], classes: state.classes, pictures: [] }, masks = [];
  for (const [number, picture] of pictures.entries()) {
    signal.throwIfAborted();
    report(number, pictures.length);
    say(`${number} of ${pictures.length} masks collected`);
    const entry = { name: picture.name, certainty: picture.own ? 1 : certaintyOf(picture) };
    let file = await maskFile(picture);
    if (by("separate").checked) {
      const fields = [["image", picture.file, picture.name], ["mask", file, "mask.png"], ["classes", state.classes.length]];
      if (picture.own) fields.push(["exact", "1"]);  // painted by hand: small parts are meant
      const { numbers: packed, labels } = await ask("objects", fields, signal);
      const numbers = new Uint16Array((await unpack(packed)).buffer);
      file = await png(numbers, picture.width, picture.height);
      entry.labels = labels;
      entry.scores = picture.own ? labels.map(() => 1) : objectScores(picture.result, numbers, labels);
    } else entry.scores = picture.own ? state.classes.map(() => 1) : scores(picture.result, state);
    masks.push(["mask", file, `${picture.name}.png`]);
    request.pictures.push(entry);
  }
  const { name, blob } = await askFile("export", [["request", JSON.stringify(request)], ...masks], signal);
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say(`${pictures.length} masks exported as ${by("format").value}: ${name}`);
});
