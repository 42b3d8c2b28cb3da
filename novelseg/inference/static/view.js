/* The stage: a picture with its mask, zoomed and moved. Three canvases of the size of the stage lie above each other:
   the picture, the mask, and what follows the pointer. */

const OPACITY = .45;

/* Pixels of ImageData of each label. */
const table = (colour, opacity) => Uint32Array.from({ length: 256 }, (_, label) => {
  if (!label) return 0;
  const [red, green, blue] = colour(label);
  return (Math.round(255 * opacity) << 24 | blue << 16 | green << 8 | red) >>> 0;
});

export class View {
  /* colour, bright: label → [red, green, blue] of its inside and its border */
  constructor(stage, colour, bright) {
    Object.assign(this, { stage, colour, bright });
    [this.picture, this.paint, this.hover] = stage.querySelectorAll("canvas");
    this.shown = null;     // { labels, image, small }
    this.scale = 1;        // pixels of the canvas per pixel of the picture
    this.left = this.top = 0;  // of the picture, in pixels of the canvas
    this.touched = false;  // whether the user has zoomed or moved
    this.onchange = () => {};
    new ResizeObserver(() => this.resize()).observe(stage);
  }

  get ratio() { return Math.min(2, devicePixelRatio || 1); }

  show(shown) {
    this.shown = shown;
    this.touched = false;
    this.resize();
  }

  resize() {
    const width = Math.max(1, Math.round(this.stage.clientWidth * this.ratio));
    const height = Math.max(1, Math.round(this.stage.clientHeight * this.ratio));
    for (const canvas of [this.picture, this.paint, this.hover])
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    if (this.touched) this.redraw(); else this.fit();
  }

  get least() {
    const { width, height } = this.shown.labels;
    return Math.min((this.paint.width - 16) / width, (this.paint.height - 16) / height);
  }

  fit() {
    if (!this.shown) { this.redraw(); return; }
    this.scale = this.least;
    this.touched = false;
    this.centre();
    this.redraw();
  }

  centre() {
    const { width, height } = this.shown.labels;
    this.left = (this.paint.width - width * this.scale) / 2;
    this.top = (this.paint.height - height * this.scale) / 2;
  }

  /* Point of the picture under a point of the window. */
  at(x, y) {
    const box = this.stage.getBoundingClientRect();
    return [((x - box.left) * this.ratio - this.left) / this.scale, ((y - box.top) * this.ratio - this.top) / this.scale];
  }

  /* Point of the window above a point of the picture. */
  screen([x, y]) {
    const box = this.stage.getBoundingClientRect();
    return [(x * this.scale + this.left) / this.ratio + box.left, (y * this.scale + this.top) / this.ratio + box.top];
  }

  /* Zoom so that the point of the window stays where it is. */
  zoom(factor, x, y) {
    if (!this.shown) return;
    const box = this.stage.getBoundingClientRect();
    const [px, py] = [((x ?? box.left + box.width / 2) - box.left) * this.ratio, ((y ?? box.top + box.height / 2) - box.top) * this.ratio];
    const scale = Math.min(40, Math.max(this.least / 2, this.scale * factor));
    this.left = px - (px - this.left) * scale / this.scale;
    this.top = py - (py - this.top) * scale / this.scale;
    this.scale = scale;
    this.touched = true;
    this.keepInside();
    this.redraw();
  }

  move(dx, dy) {
    if (!this.shown) return;
    this.left += dx * this.ratio;
    this.top += dy * this.ratio;
    this.touched = true;
    this.keepInside();
    this.redraw();
  }

  keepInside() {
    const { width, height } = this.shown.labels, margin = 40;
    this.left = Math.min(this.paint.width - margin, Math.max(margin - width * this.scale, this.left));
    this.top = Math.min(this.paint.height - margin, Math.max(margin - height * this.scale, this.top));
  }

  redraw() {
    const context = this.picture.getContext("2d"), { width, height } = this.picture;
    context.clearRect(0, 0, width, height);
    this.paint.getContext("2d").clearRect(0, 0, width, height);
    this.hover.getContext("2d").clearRect(0, 0, width, height);
    if (!this.shown) return;
    const { labels, image, small } = this.shown;
    // Of the large picture, only the part on the stage is drawn, and only where the small one is too coarse.
    const source = this.scale * labels.width > small.width * 1.2 ? image : small, ratio = source.width / labels.width;
    const x0 = Math.max(0, -this.left / this.scale), y0 = Math.max(0, -this.top / this.scale);
    const x1 = Math.min(labels.width, (width - this.left) / this.scale), y1 = Math.min(labels.height, (height - this.top) / this.scale);
    context.imageSmoothingEnabled = this.scale < 6;
    if (x1 > x0 && y1 > y0)
      context.drawImage(source, x0 * ratio, y0 * ratio, (x1 - x0) * ratio, (y1 - y0) * ratio,
        x0 * this.scale + this.left, y0 * this.scale + this.top, (x1 - x0) * this.scale, (y1 - y0) * this.scale);
    this.drawMask([0, 0, labels.width, labels.height]);
    this.onchange();
  }

  /* Draw the mask in a box of the picture: classes are tinted, and their borders drawn. */
  drawMask([left, top, right, bottom]) {
    if (!this.shown || left >= right || top >= bottom) return;
    const { labels } = this.shown, { scale } = this;
    const x0 = Math.max(0, Math.floor(left * scale + this.left) - 2), y0 = Math.max(0, Math.floor(top * scale + this.top) - 2);
    const x1 = Math.min(this.paint.width, Math.ceil(right * scale + this.left) + 2);
    const y1 = Math.min(this.paint.height, Math.ceil(bottom * scale + this.top) + 2);
    const width = x1 - x0, height = y1 - y0;
    if (width <= 0 || height <= 0) return;
    const columns = new Int32Array(width + 2);
    for (let x = 0; x < width + 2; x++) {
      const column = Math.floor((x0 + x - 1 + .5 - this.left) / scale);
      columns[x] = column < 0 || column >= labels.width ? -1 : column;
    }
    const row = (y, into) => {
      const line = Math.floor((y + .5 - this.top) / scale);
      if (line < 0 || line >= labels.height) { into.fill(0); return into; }
      const start = line * labels.width, { data } = labels;
      for (let x = 0; x < width + 2; x++) into[x] = columns[x] < 0 ? 0 : data[start + columns[x]];
      return into;
    };
    const content = new ImageData(width, height), pixels = new Uint32Array(content.data.buffer);
    const soft = table(this.colour, OPACITY), hard = table(this.bright, 1);
    let above = row(y0 - 1, new Uint8Array(width + 2)), here = row(y0, new Uint8Array(width + 2)), below = new Uint8Array(width + 2);
    for (let y = 0; y < height; y++) {
      row(y0 + y + 1, below);
      for (let x = 1, place = y * width; x <= width; x++, place++) {
        const label = here[x];
        if (!label) continue;
        const inner = here[x - 1] === label && here[x + 1] === label && above[x] === label && below[x] === label;
        pixels[place] = inner ? soft[label] : hard[label];
      }
      [above, here, below] = [here, below, above];
    }
    this.paint.getContext("2d").putImageData(content, x0, y0);
  }

  /* Draw on the uppermost canvas, in pixels of the picture. */
  drawHover(draw) {
    const context = this.hover.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.hover.width, this.hover.height);
    if (!this.shown || !draw) return;
    context.setTransform(this.scale, 0, 0, this.scale, this.left, this.top);
    draw(context, this.ratio / this.scale);  // the length of one pixel of the window
  }
}

/* Lines that are visible on everything: white inside black. */
export const outlined = (context, unit, path) => {
  for (const [style, width] of [["#000b", 3], ["#fff", 1.4]]) {
    context.strokeStyle = style;
    context.lineWidth = width * unit;
    context.stroke(path);
  }
};
