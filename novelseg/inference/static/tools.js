/* The tools: what the pointer, the wheel and the keyboard do on the stage. */

import { outlined } from "./view.js";

export const TOOLS = {
  brush: { key: "b", name: "Brush" },
  eraser: { key: "e", name: "Eraser" },
  region: { key: "r", name: "Region" },
  polygon: { key: "p", name: "Polygon" },
  box: { key: "x", name: "Box" },
  fill: { key: "f", name: "Fill" },
  move: { key: "m", name: "Move" },
};
const ROUND = new Set(["brush", "eraser"]);

export class Tools {
  /* host: { labels(), regions(), label(), edited(box), edit(work), changed() } */
  constructor(view, host) {
    Object.assign(this, { view, host, name: "brush", radius: 12, strength: .45 });
    this.pointer = null;    // last place of the pointer, in pixels of the picture
    this.points = [];       // of a polygon or box that is not finished
    this.drag = null;       // what a pressed pointer does
    this.fingers = new Map();
    this.region = null;     // the region under the pointer: { node, field, box, tint }
    const { stage } = view;
    view.onchange = () => this.draw();
    stage.addEventListener("pointerdown", event => this.down(event));
    stage.addEventListener("pointermove", event => this.moved(event));
    for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, event => this.up(event));
    stage.addEventListener("pointerleave", () => { if (!this.drag) { this.pointer = null; this.draw(); } });
    stage.addEventListener("wheel", event => this.wheel(event), { passive: false });
    stage.addEventListener("contextmenu", event => event.preventDefault());
    stage.addEventListener("dblclick", () => { if (this.name === "polygon") this.finish(); });
  }

  choose(name) {
    this.name = name;
    this.points = [];
    this.view.stage.dataset.tool = name;
    this.hoverRegion();
    this.draw();
    this.host.changed();
  }

  /* Radius of the brush, in pixels of the picture; its size is one on the stage, whatever the zoom. */
  get reach() { return this.radius * this.view.ratio / this.view.scale; }

  resize(factor) {
    this.radius = Math.min(200, Math.max(1, this.radius * factor));
    this.draw();
    this.host.changed();
  }

  setStrength(strength) {
    this.strength = strength;
    this.hoverRegion();
    this.draw();
    this.host.changed();
  }

  level(larger) {
    const regions = this.host.regions(), share = this.share();
    if (!regions || !share) return;
    this.setStrength(regions.next(...share, this.strength, larger));
  }

  share() {
    const labels = this.host.labels();
    if (!labels || !this.pointer) return null;
    const [x, y] = [this.pointer[0] / labels.width, this.pointer[1] / labels.height];
    return x >= 0 && y >= 0 && x < 1 && y < 1 ? [x, y] : null;
  }

  hoverRegion() {
    const regions = this.host.regions(), share = this.share();
    if (this.name !== "region" || !regions || !share) { this.region = null; return; }
    const node = regions.node(...share, this.strength);
    const label = this.host.label();
    if (this.region?.node === node && this.region.regions === regions && this.region.label === label) return;
    this.region = { node, regions, label, ...regions.field(node), tint: null };
  }

  value(event) { return this.name === "eraser" || event?.button === 2 || event?.altKey ? 0 : this.host.label(); }

  down(event) {
    const labels = this.host.labels();
    if (!labels || event.target.closest("button, label")) return;
    this.view.stage.focus({ preventScroll: true });
    event.preventDefault();
    this.view.stage.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.fingers.size === 2) { this.pinch(); return; }
      if (this.fingers.size > 2) return;
    }
    this.pointer = this.view.at(event.clientX, event.clientY);
    this.hoverRegion();
    if (this.name === "move" || event.button === 1 || this.space) {
      this.drag = { kind: "move", last: [event.clientX, event.clientY] };
    } else if (ROUND.has(this.name)) {
      labels.begin();
      this.drag = { kind: "stroke", value: this.value(event), last: this.pointer };
      this.host.edited(labels.stroke(this.pointer, this.pointer, this.reach, this.drag.value));
    } else if (this.name === "box") {
      this.drag = { kind: "box", value: this.value(event) };
      this.points = [this.pointer];
    } else this.act(this.value(event));
    this.draw();
  }

  /* Do at the pointer what a click or the Enter key does. */
  act(value = this.value()) {
    const labels = this.host.labels(), share = this.share();
    if (!labels || !this.pointer) return;
    if (ROUND.has(this.name)) this.host.edit(() => labels.stroke(this.pointer, this.pointer, this.reach, value));
    if (this.name === "polygon") {
      const near = 10 * this.view.ratio / this.view.scale, [first] = this.points;
      if (this.points.length > 2 && Math.hypot(first[0] - this.pointer[0], first[1] - this.pointer[1]) < near) this.finish(value);
      else this.points.push(this.pointer);
    }
    if (this.name === "box") {
      this.points.push(this.pointer);
      if (this.points.length === 2) this.finish(value);
    }
    if (this.name === "fill" && share) this.host.edit(() => labels.flood(...this.pointer.map(Math.floor), value));
    if (this.name === "region" && this.region) {
      const { regions, field, box } = this.region;
      this.host.edit(() => labels.field(field, regions.width, regions.height, box, value));
    }
    this.draw();
  }

  finish(value = this.value()) {
    const labels = this.host.labels(), points = this.points;
    this.points = [];
    if (this.name === "polygon" && points.length > 2) this.host.edit(() => labels.polygon(points, value));
    if (this.name === "box" && points.length === 2) {
      const [[x0, y0], [x1, y1]] = points;
      this.host.edit(() => labels.polygon([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], value));
    }
    this.draw();
  }

  moved(event) {
    if (this.fingers.has(event.pointerId)) {
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.drag?.kind === "pinch") { this.pinched(); return; }
    }
    this.pointer = this.view.at(event.clientX, event.clientY);
    const { drag } = this, labels = this.host.labels();
    if (drag?.kind === "move") {
      this.view.move(event.clientX - drag.last[0], event.clientY - drag.last[1]);
      drag.last = [event.clientX, event.clientY];
    } else if (drag?.kind === "stroke") {
      const box = [Infinity, Infinity, 0, 0];
      const all = event.getCoalescedEvents?.() ?? [];
      for (const one of all.length ? all : [event]) {
        const next = this.view.at(one.clientX, one.clientY), part = labels.stroke(drag.last, next, this.reach, drag.value);
        drag.last = next;
        for (const side of [0, 1]) {
          box[side] = Math.min(box[side], part[side]);
          box[side + 2] = Math.max(box[side + 2], part[side + 2]);
        }
      }
      this.host.edited(box);
    } else this.hoverRegion();
    this.draw();
  }

  up(event) {
    const pinching = this.drag?.kind === "pinch";
    this.fingers.delete(event.pointerId);
    if (pinching) { if (!this.fingers.size) this.drag = null; return; }
    const { drag } = this;
    this.drag = null;
    if (drag?.kind === "stroke") this.host.edit(null);
    if (drag?.kind === "box" && event.type === "pointerup") {
      this.points.push(this.view.at(event.clientX, event.clientY));
      const [from, to] = this.points.map(point => this.view.screen(point));
      if (Math.hypot(from[0] - to[0], from[1] - to[1]) > 4) this.finish(drag.value); else this.points = [];
    }
    if (event.pointerType === "touch") this.pointer = this.region = null;
    this.draw();
  }

  /* A second finger ends what the first one began, and both zoom and move. */
  pinch() {
    const labels = this.host.labels();
    if (this.drag?.kind === "stroke") { labels.cancel(); this.view.redraw(); } else if (this.drag?.kind === "box") this.points = [];
    else if (this.name === "polygon") this.points.pop();
    else if (this.name === "region" || this.name === "fill") this.host.takeBack();
    this.drag = { kind: "pinch", last: this.grip() };
  }

  grip() {
    const [one, other] = [...this.fingers.values()];
    return { x: (one[0] + other[0]) / 2, y: (one[1] + other[1]) / 2, gap: Math.hypot(one[0] - other[0], one[1] - other[1]) || 1 };
  }

  pinched() {
    if (this.fingers.size < 2) return;
    const { last } = this.drag, next = this.grip();
    this.view.move(next.x - last.x, next.y - last.y);
    this.view.zoom(next.gap / last.gap, next.x, next.y);
    this.drag.last = next;
  }

  wheel(event) {
    if (!this.view.shown) return;
    event.preventDefault();
    const up = event.deltaY < 0;
    if (event.ctrlKey || event.metaKey || !(ROUND.has(this.name) || this.name === "region"))
      this.view.zoom(up ? 1.2 : 1 / 1.2, event.clientX, event.clientY);
    else if (this.name === "region") { this.pointer = this.view.at(event.clientX, event.clientY); this.level(up); } else this.resize(up ? 1.15 : 1 / 1.15);
  }

  /* Keys on the stage; true if the key was used. */
  key(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const labels = this.host.labels();
    if (!labels) return false;
    if (event.key in arrows) {
      const [dx, dy] = arrows[event.key], step = (event.shiftKey ? 1 : 12) * this.view.ratio / this.view.scale;
      this.pointer ??= this.middle();
      const limit = [labels.width, labels.height];
      this.pointer = this.pointer.map((value, side) => Math.min(limit[side], Math.max(0, value + [dx, dy][side] * step)));
      this.hoverRegion();
      this.draw(true);
    } else if (event.key === "Enter") {
      this.pointer ??= this.middle();
      this.hoverRegion();
      if (event.ctrlKey || event.metaKey || event.shiftKey) this.finish(); else this.act();
    } else if (event.key === "Backspace" && this.points.length) { this.points.pop(); this.draw(); } else if (event.key === "Escape" && (this.points.length || this.drag)) {
      this.points = [];
      if (this.drag?.kind === "stroke") { labels.cancel(); this.view.redraw(); }
      this.drag = null;
      this.draw();
    } else if (event.key === "[" || event.key === "]") {
      const more = event.key === "]";
      if (this.name === "region") this.level(more); else this.resize(more ? 1.15 : 1 / 1.15);
    } else return false;
    return true;
  }

  middle() {
    const box = this.view.stage.getBoundingClientRect();
    return this.view.at(box.left + box.width / 2, box.top + box.height / 2);
  }

  /* Draw what follows the pointer: outline of the brush, region, polygon or box, and for keys a cross. */
  draw(cross = false) {
    this.view.drawHover(this.pointer || this.points.length ? (context, unit) => {
      const { pointer, points } = this;
      if (this.region && this.name === "region") this.drawRegion(context);
      if (ROUND.has(this.name) && pointer) {
        const circle = new Path2D();
        circle.arc(pointer[0], pointer[1], this.reach, 0, 7);
        outlined(context, unit, circle);
      }
      if (points.length) {
        const path = new Path2D(), [first] = points;
        if (this.name === "box") path.rect(...first, (pointer ?? first)[0] - first[0], (pointer ?? first)[1] - first[1]);
        else {
          [...points, ...(pointer ? [pointer] : [])].forEach((point, number) => number ? path.lineTo(...point) : path.moveTo(...point));
          for (const [x, y] of points) path.rect(x - 3 * unit, y - 3 * unit, 6 * unit, 6 * unit);
        }
        outlined(context, unit, path);
      }
      if (pointer && (cross || ["polygon", "box", "fill"].includes(this.name))) {
        const path = new Path2D();
        for (const [dx, dy] of [[1, 0], [0, 1]]) {
          path.moveTo(pointer[0] - 9 * dx * unit, pointer[1] - 9 * dy * unit);
          path.lineTo(pointer[0] + 9 * dx * unit, pointer[1] + 9 * dy * unit);
        }
        outlined(context, unit, path);
      }
    } : null);
  }

  drawRegion(context) {
    const { regions, field, box } = this.region, labels = this.host.labels();
    if (!this.region.tint) {
      const tint = new OffscreenCanvas(box[2] - box[0], box[3] - box[1]), content = new ImageData(tint.width, tint.height);
      const pixels = new Uint32Array(content.data.buffer), { width } = regions, [red, green, blue] = this.view.colour(this.host.label());
      const inner = (0x70 << 24 | blue << 16 | green << 8 | red) >>> 0;
      for (let y = box[1], place = 0; y < box[3]; y++)
        for (let x = box[0], at = y * width + x; x < box[2]; x++, at++, place++) {
          if (field[at] <= 0) continue;
          // Outside the picture, values are undefined, and no border is drawn.
          const border = field[at - 1] < 0 || field[at + 1] < 0 || field[at - width] < 0 || field[at + width] < 0;
          pixels[place] = border ? 0xffffffff : inner;
        }
      tint.getContext("2d").putImageData(content, 0, 0);
      this.region.tint = tint;
    }
    const [sx, sy] = [labels.width / regions.width, labels.height / regions.height];
    context.imageSmoothingEnabled = true;
    context.drawImage(this.region.tint, box[0] * sx, box[1] * sy, this.region.tint.width * sx, this.region.tint.height * sy);
  }
}
