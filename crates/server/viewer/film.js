// The filmstrip: a storyboard of the server, cut into the small pictures of the timeline.

import * as api from "./api.js";

/** Most rows and columns of a sheet. */
const COLUMNS = 10;

export class Film {
  #sheet;
  /** @type {{frame: number, x: number, y: number}[]} */
  #tiles;
  #width;
  #height;
  #aspect;

  /** @param {ImageBitmap} sheet @param {number} aspect of the pictures as they are to be seen */
  constructor(sheet, { tiles, tile_width: width, tile_height: height }, aspect) {
    this.#sheet = sheet;
    this.#tiles = tiles;
    [this.#width, this.#height] = [width, height];
    this.#aspect = aspect;
  }

  /** As many small pictures as fit side by side into the timeline. */
  static async load(path, info, width, height, signal) {
    const [horizontal, vertical] = info.pixel_aspect_ratio;
    const aspect = (info.width * horizontal) / vertical / info.height;
    const wanted = Math.ceil(width / Math.max(24, height * aspect));
    const columns = Math.min(COLUMNS, wanted);
    const rows = Math.max(1, Math.ceil(wanted / columns));
    const scale = Math.min(2, Math.ceil(devicePixelRatio));
    const tile = Math.min(320, Math.ceil((height * aspect * scale) / 16) * 16);
    const { board, sheet } = await api.storyboard(path, { columns, rows, width: tile }, signal);
    return new Film(await createImageBitmap(sheet), board, aspect);
  }

  /** Fills the strip: each slot with the picture whose frame is nearest to the slot's middle. */
  draw(context, width, height, count) {
    const slots = Math.max(1, Math.round(width / (height * this.#aspect)));
    const wide = width / slots;
    context.imageSmoothingQuality = "high";
    let at = 0;
    for (let slot = 0; slot < slots; slot++) {
      const middle = ((slot + 0.5) / slots) * count;
      const away = (n) => Math.abs(this.#tiles[n].frame - middle);
      while (at + 1 < this.#tiles.length && away(at + 1) <= away(at)) at++;
      const tile = this.#tiles[at];
      if (!tile) return;
      // The slot is filled; what does not fit is cut off at the sides.
      const shown = wide / height / this.#aspect;
      const cut = this.#width * Math.min(1, shown);
      const tall = this.#height * Math.min(1, 1 / shown);
      const [left, top] = [tile.x + (this.#width - cut) / 2, tile.y + (this.#height - tall) / 2];
      context.drawImage(this.#sheet, left, top, cut, tall, slot * wide, 0, wide + 0.5, height);
    }
  }
}
