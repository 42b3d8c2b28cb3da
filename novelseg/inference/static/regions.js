/* The region hierarchy of a picture, from the server: small regions, and the tree in which they merge. */

import { unpack } from "./pack.js";

const STEP = 1.15;  // least growth of a region from one level to the next

export class Regions {
  static async from(sent) {
    const [basins, parents, heights] = await Promise.all([sent.basins, sent.parents, sent.heights].map(unpack));
    return new Regions(sent.width, sent.height, new Uint16Array(basins.buffer), new Int32Array(parents.buffer),
      new Float32Array(heights.buffer));
  }

  constructor(width, height, basins, parents, heights) {
    Object.assign(this, { width, height, basins, parents, heights });
    this.areas = new Float64Array(parents.length);
    for (const basin of basins) this.areas[basin]++;
    for (let node = 0; node < parents.length - 1; node++) this.areas[parents[node]] += this.areas[node];
  }

  /* The node that contains a point, in shares of the picture's sides, in the cut at a contour strength. */
  node(x, y, strength) {
    const column = Math.min(this.width - 1, Math.floor(x * this.width));
    let node = this.basins[Math.min(this.height - 1, Math.floor(y * this.height)) * this.width + column];
    while (this.parents[node] !== node && this.heights[this.parents[node]] < strength) node = this.parents[node];
    return node;
  }

  /* The strength at which the region at a point becomes the next larger or smaller one. */
  next(x, y, strength, larger) {
    const path = [this.node(x, y, 0)];
    while (this.parents[path.at(-1)] !== path.at(-1)) path.push(this.parents[path.at(-1)]);
    const present = this.areas[this.node(x, y, strength)];
    const other = larger ? path.find(node => this.areas[node] > present * STEP)
      : path.findLast(node => this.areas[node] * STEP < present);
    if (other === undefined) return strength;
    return Math.min(1.001, this.heights[other] + 1e-6);
  }

  /* A field that is above 0 inside a node, and the box of its columns and rows. */
  field(node) {
    const inside = new Uint8Array(this.parents.length), field = new Float32Array(this.basins.length);
    inside[node] = 1;
    for (let other = node - 1; other >= 0; other--) inside[other] = inside[this.parents[other]];
    const box = [this.width, this.height, 0, 0];
    for (let y = 0, place = 0; y < this.height; y++)
      for (let x = 0; x < this.width; x++, place++) {
        field[place] = -.5;
        if (!inside[this.basins[place]]) continue;
        field[place] = .5;
        if (x < box[0]) box[0] = x;
        if (x >= box[2]) box[2] = x + 1;
        if (y < box[1]) box[1] = y;
        box[3] = y + 1;
      }
    return { field, box };
  }
}
