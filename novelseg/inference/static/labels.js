/* A mask: the number of the class of each pixel, what can be painted on it, and its history.

   Coordinates are in pixels of the picture; pixel (0, 0) covers 0 to 1. Boxes are [left, top, right, bottom]. */

const BAND = 8;  // rows that the history keeps together
const MOST_STEPS = 200, MOST_RUNS = 1 << 23;  // of the history

/* Runs of equal bytes, as [end, value, end, value, …]. Masks have long runs, in which whole words are compared. */
const encode = bytes => {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2), runs = [];
  for (let start = 0; start < bytes.length;) {
    const value = bytes[start], word = Math.imul(value, 0x01010101) >>> 0;
    let end = start + 1;
    while (end & 3 && end < bytes.length && bytes[end] === value) end++;
    if (!(end & 3)) {
      let place = end >> 2;
      while (place < words.length && words[place] === word) place++;
      end = place << 2;
      while (end < bytes.length && bytes[end] === value) end++;
    }
    runs.push(end, value);
    start = end;
  }
  return runs;
};

const decode = (runs, bytes) => {
  for (let place = 0, start = 0; place < runs.length; place += 2) {
    bytes.fill(runs[place + 1], start, runs[place]);
    start = runs[place];
  }
};

const same = (one, other) => one.length === other.length && one.every((value, place) => value === other[place]);

export class Labels {
  constructor(width, height, data = new Uint8Array(width * height)) {
    Object.assign(this, { width, height, data });
    this.step = null;   // runs of bands of rows, as they were before the present step
    this.past = [];
    this.future = [];
  }

  /* Rows and columns of a box that lie in the picture. */
  clip([left, top, right, bottom]) {
    return [Math.max(0, Math.floor(left)), Math.max(0, Math.floor(top)),
      Math.min(this.width, Math.ceil(right)), Math.min(this.height, Math.ceil(bottom))];
  }

  begin() { this.step = new Map(); }

  /* Keep the rows of a box before they are painted on. */
  touch([left, top, right, bottom]) {
    if (!this.step || left >= right || top >= bottom) return;
    for (let band = Math.floor(top / BAND); band * BAND < bottom; band++)
      if (!this.step.has(band)) this.step.set(band, encode(this.rows(band)));
  }

  rows(band) {
    const size = BAND * this.width;
    return this.data.subarray(band * size, (band + 1) * size);
  }

  /* End the present step; true if it changed anything. */
  commit() {
    const step = this.step;
    this.step = null;
    for (const [band, before] of step ?? []) {
      if (!same(before, encode(this.rows(band)))) break;
      step.delete(band);
    }
    if (!step?.size) return false;
    this.past.push(step);
    this.future = [];
    this.past.at(-1).runs = [...step.values()].reduce((sum, runs) => sum + runs.length, 0);
    const runs = () => this.past.reduce((sum, one) => sum + one.runs, 0);
    while (this.past.length > MOST_STEPS || (this.past.length > 1 && runs() > MOST_RUNS)) this.past.shift();
    return true;
  }

  /* Take back a step that has not ended. */
  cancel() {
    if (!this.step) return;
    this.swap(this.step);
    this.step = null;
  }

  swap(step) {
    for (const [band, before] of step) {
      const rows = this.rows(band);
      step.set(band, encode(rows));
      decode(before, rows);
    }
  }

  undo() { return this.move(this.past, this.future); }
  redo() { return this.move(this.future, this.past); }

  move(from, to) {
    const step = from.pop();
    if (!step) return false;
    this.swap(step);
    to.push(step);
    return true;
  }

  span(y, left, right, value) {
    if (right > left) this.data.fill(value, y * this.width + left, y * this.width + right);
  }

  /* Paint what a round brush of radius r covers on its way from one point to another. */
  stroke([ax, ay], [bx, by], r, value) {
    const box = this.clip([Math.min(ax, bx) - r, Math.min(ay, by) - r, Math.max(ax, bx) + r, Math.max(ay, by) + r]);
    this.touch(box);
    const length = Math.hypot(bx - ax, by - ay) || 1, nx = -(by - ay) / length * r, ny = (bx - ax) / length * r;
    const edges = [[ax + nx, ay + ny, bx + nx, by + ny], [ax - nx, ay - ny, bx - nx, by - ny]];
    for (let y = box[1]; y < box[3]; y++) {
      let least = Infinity, most = -Infinity;
      const middle = y + .5, include = x => { least = Math.min(least, x); most = Math.max(most, x); };
      for (const [x, centre] of [[ax, ay], [bx, by]]) {
        const half = r * r - (middle - centre) ** 2;
        if (half >= 0) { include(x - Math.sqrt(half)); include(x + Math.sqrt(half)); }
      }
      for (const [x0, y0, x1, y1] of edges)
        if ((y0 <= middle) !== (y1 <= middle)) include(x0 + (middle - y0) / (y1 - y0) * (x1 - x0));
      this.span(y, Math.max(0, Math.ceil(least - .5)), Math.min(this.width, Math.floor(most - .5) + 1), value);
    }
    return box;
  }

  /* Paint the inside of a polygon: pixels whose centre an odd number of edges is left of. */
  polygon(points, value) {
    const xs = points.map(point => point[0]), ys = points.map(point => point[1]);
    const box = this.clip([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
    this.touch(box);
    for (let y = box[1]; y < box[3]; y++) {
      const crossings = [];
      points.forEach(([x0, y0], number) => {
        const [x1, y1] = points[(number + 1) % points.length];
        if ((y0 <= y + .5) !== (y1 <= y + .5)) crossings.push(x0 + (y + .5 - y0) / (y1 - y0) * (x1 - x0));
      });
      crossings.sort((one, other) => one - other);
      for (let pair = 0; pair + 1 < crossings.length; pair += 2)
        this.span(y, Math.max(0, Math.ceil(crossings[pair] - .5)),
          Math.min(this.width, Math.ceil(crossings[pair + 1] - .5)), value);
    }
    return box;
  }

  /* Paint all pixels of the same class that are connected with one by their sides. */
  flood(x, y, value) {
    const { width, height, data } = this, from = data[y * width + x], todo = [[x, y]];
    if (from === value) return [0, 0, 0, 0];
    const box = [x, y, x + 1, y + 1];
    while (todo.length) {
      const [column, row] = todo.pop(), start = row * width;
      if (data[start + column] !== from) continue;
      let left = column, right = column + 1;
      while (left > 0 && data[start + left - 1] === from) left--;
      while (right < width && data[start + right] === from) right++;
      this.touch([left, row, right, row + 1]);
      this.span(row, left, right, value);
      box[0] = Math.min(box[0], left); box[1] = Math.min(box[1], row);
      box[2] = Math.max(box[2], right); box[3] = Math.max(box[3], row + 1);
      for (const next of [row - 1, row + 1]) {
        if (next < 0 || next >= height) continue;
        for (let place = left; place < right; place++)
          if (data[next * width + place] === from && (place === left || data[next * width + place - 1] !== from))
            todo.push([place, next]);
      }
    }
    return box;
  }

  /* Paint where a field, enlarged to the picture by linear interpolation, is above 0.

     field: Float32Array of columns × rows; box: its columns and rows that contain all values above 0. */
  field(field, columns, rows, box, value) {
    const { width, height } = this;
    const first = Math.max(0, box[0] - 1), last = Math.min(columns, box[2] + 1);
    const painted = this.clip([(box[0] - 1) * width / columns, (box[1] - 1) * height / rows,
      (box[2] + 1) * width / columns, (box[3] + 1) * height / rows]);
    this.touch(painted);
    const column = u => Math.min(width, Math.max(0, Math.ceil((u + .5) * width / columns - .5)));
    let pair = -1, upper = 0, lower = 0, steps = [];
    for (let y = painted[1]; y < painted[3]; y++) {
      const v = Math.min(rows - 1, Math.max(0, (y + .5) * rows / height - .5)), above = Math.floor(v), share = v - above;
      if (above !== pair) {  // columns between which the sign can change in the pixels between two rows of the field
        pair = above;
        upper = above * columns;
        lower = Math.min(rows - 1, above + 1) * columns;
        steps = [];
        for (let u = first; u + 1 < last; u++) {
          const sign = field[upper + u] > 0;
          if (field[lower + u] > 0 !== sign || field[upper + u + 1] > 0 !== sign || field[lower + u + 1] > 0 !== sign) steps.push(u);
        }
      }
      const at = u => field[upper + u] * (1 - share) + field[lower + u] * share;
      let start = at(first) > 0 ? (first ? column(first) : 0) : -1;
      for (const u of steps) {
        const here = at(u), next = at(u + 1);
        if ((here > 0) === (next > 0)) continue;
        const crossing = column(u + here / (here - next));
        if (start >= 0) { this.span(y, start, crossing, value); start = -1; } else start = crossing;
      }
      if (start >= 0) this.span(y, start, last === columns ? width : column(last - 1), value);
    }
    return painted;
  }

  /* Whether any pixel has a class. */
  get painted() {
    const { data } = this;
    for (let place = 0; place < data.length; place++) if (data[place] > 0 && data[place] < 255) return true;
    return false;
  }

  /* The class of the pixel in the middle of each cell of a smaller grid. */
  reduced(width, height) {
    const small = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const row = Math.floor((y + .5) * this.height / height) * this.width;
      for (let x = 0; x < width; x++) small[y * width + x] = this.data[row + Math.floor((x + .5) * this.width / width)];
    }
    return small;
  }
}
