// From the frame that somebody points at to the picture on the stage.
//
// Each point asks for one frame with `replace`, and with `preview` where exact pictures are not quick;
// what comes is drawn if nothing newer has been. Pictures that came stay here compressed, so that going
// back and forth asks nobody.

import { Refusal } from "./link.js";

/** Bytes of compressed pictures that are kept. */
const KEPT = 48 << 20;

/** Pictures that take so many milliseconds, in the mean, are not waited for by a newer wish. */
const SLOW = 250;
/** Where exact pictures come within so many, another one before each would only flicker, and cost. */
const QUICK = 50;

/** Compressed pictures, those used last. */
class Shelf {
  #images = new Map();
  #bytes = 0;

  get(key) {
    const image = this.#images.get(key);
    if (image) {
      this.#images.delete(key);
      this.#images.set(key, image);
    }
    return image;
  }

  put(key, image) {
    if (this.#images.has(key)) return;
    this.#images.set(key, image);
    this.#bytes += image.byteLength;
    for (const [oldest, { byteLength }] of this.#images) {
      if (this.#bytes <= KEPT) break;
      this.#images.delete(oldest);
      this.#bytes -= byteLength;
    }
  }

  clear() {
    this.#images.clear();
    this.#bytes = 0;
  }
}

/** @param {ArrayBuffer} bytes */
export function decode(bytes) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }), options);
}

/**
 * Events: `picture` (detail `{frame, exact, asked, drawn, width, height, by}`; `asked` and `drawn` in
 * milliseconds of `performance.now()`), `fail` (detail `{frame, error, message}`).
 */
export class Projector extends EventTarget {
  #link;
  #stage;
  #shelf = new Shelf();
  /** Counts what was pointed at. */
  #turn = 0;
  /** Counts videos: what belongs to an earlier one is not drawn. */
  #video = 0;
  #wanted = 0;
  /** What is on the stage: its turn, its frame, whether it is the one that was asked for. */
  #shown = { turn: 0, frame: -1, exact: false, rows: undefined };
  /** Whether what was pointed at last has been drawn or has failed. */
  #settled = true;
  /** @type {import("./local.js").Local|null} */
  #local = null;
  /** @type {AbortController|null} */
  #fetching = null;
  /** The request that the server works at: when it was asked. */
  #flying = null;
  /** What was pointed at since. */
  #waiting = null;
  #impatient = 0;
  /** Mean milliseconds from request to exact picture; before the first, a guess. */
  #latency = 80;

  constructor(link, stage) {
    super();
    this.#link = link;
    this.#stage = stage;
  }

  get shown() {
    return this.#shown.frame;
  }

  get settled() {
    return this.#settled;
  }

  /** Another video, or another version of it. */
  open() {
    this.#video++;
    this.#shelf.clear();
    this.#shown = { turn: this.#turn, frame: -1, exact: false, rows: undefined };
    this.#settled = true;
    this.#flying = this.#waiting = null;
    clearTimeout(this.#impatient);
    this.use(null);
  }

  /** Decodes here (or, with `null`, on the server). */
  use(local) {
    this.#fetching?.abort();
    this.#local?.close();
    this.#local = local;
  }

  /** Shows this frame. `asked` is when somebody wished so. */
  point(frame, asked = performance.now()) {
    const turn = ++this.#turn;
    this.#wanted = frame;
    this.#settled = false;
    this.#fetching?.abort();
    if (this.#local) {
      this.#here(turn, frame, asked);
      return;
    }
    // Where pictures come quickly, the one in flight is let come: who replaces it with each move of
    // a fast hand sees nothing exact until the hand rests. Where they take longer than a hand
    // waits, a newer wish goes first, and previews fill the time.
    this.#waiting = { turn, frame, asked };
    clearTimeout(this.#impatient);
    const patience = this.#patience();
    if (patience > 0) this.#impatient = setTimeout(() => this.#go(), patience);
    else this.#go();
  }

  /** How long what is in flight is waited for yet. */
  #patience() {
    if (!this.#flying || this.#latency > SLOW) return 0;
    const most = Math.min(SLOW, 2 * this.#latency);
    return this.#flying.sent + most - performance.now();
  }

  /** Asks for what waits. */
  #go() {
    clearTimeout(this.#impatient);
    const waiting = this.#waiting;
    this.#waiting = null;
    if (!waiting) return;
    // What is given up would have taken longer than it has.
    if (this.#flying) this.#learn(2 * (performance.now() - this.#flying.sent));
    this.#there(waiting.turn, waiting.frame, waiting.asked);
  }

  #learn(ms) {
    this.#latency += (ms - this.#latency) / 4;
  }

  /** Asks again where more rows are seen than came. */
  refine() {
    const { frame, exact, rows } = this.#shown;
    const wanted = this.#stage.rows();
    const enough = rows === undefined || (wanted !== undefined && wanted <= rows);
    if (exact && !enough && !this.#local && this.#settled && frame === this.#wanted) {
      this.point(frame);
    }
  }

  /** A picture of the player, which asks for its pictures itself. */
  show(image, frame, rows) {
    const turn = ++this.#turn;
    this.#wanted = frame;
    this.#settled = true;
    this.#draw(image, { turn, frame, exact: true, asked: undefined, rows, by: "server" });
  }

  #there(turn, frame, asked) {
    const rows = this.#stage.rows();
    const video = this.#video;
    const key = `${frame}/${rows}`;
    const kept = this.#shelf.get(key);
    if (kept) {
      this.#flying = null;
      // Nobody waits for the frame before any more.
      this.#link.cancel();
      this.#decoded(kept, video, { turn, frame, exact: true, asked, rows, by: "here" });
      return;
    }
    const options = { replace: true, preview: this.#latency > QUICK };
    if (rows !== undefined) options.height = rows;
    const flying = { sent: performance.now() };
    this.#flying = flying;
    this.#link.request(frame, options, (answer) => {
      if (video !== this.#video) return;
      if (!answer.preview) {
        if (answer.bytes) this.#learn(performance.now() - flying.sent);
        if (this.#flying === flying) {
          this.#flying = null;
          this.#go();
        }
      }
      if (answer.error) {
        this.#failed(turn, frame, answer);
        return;
      }
      const { bytes, preview } = answer;
      const exact = !preview;
      if (exact) this.#shelf.put(key, bytes);
      const shown = answer.frame ?? frame;
      if (preview && this.#isNearer(shown)) return;
      this.#decoded(bytes, video, { turn, frame: shown, exact, asked, rows, by: "server" });
    });
  }

  /** Whether what is on the stage is at least as near to what is wanted as this frame is. */
  #isNearer(frame) {
    const shown = this.#shown.frame;
    return shown >= 0 && Math.abs(shown - this.#wanted) <= Math.abs(frame - this.#wanted);
  }

  async #decoded(bytes, video, picture) {
    try {
      const image = await decode(bytes);
      if (video === this.#video) this.#draw(image, picture);
      image.close();
    } catch (error) {
      this.#failed(picture.turn, picture.frame, { error: "undecoded", message: String(error) });
    }
  }

  #draw(image, { turn, frame, exact, asked, rows, by }) {
    const before = this.#shown;
    if (turn < before.turn || (turn === before.turn && before.exact)) return;
    this.#stage.draw(image, image.width, image.height);
    this.#drawn({ turn, frame, exact, asked, rows, by }, image.width, image.height);
  }

  #drawn({ turn, frame, exact, asked, rows, by }, width, height) {
    this.#shown = { turn, frame, exact, rows };
    if (turn === this.#turn && exact) this.#settled = true;
    const drawn = performance.now();
    const detail = { frame, exact, asked, drawn, width, height, by };
    this.dispatchEvent(new CustomEvent("picture", { detail }));
  }

  /** Decodes here: the access units that the frame needs come as they are. */
  async #here(turn, frame, asked) {
    const [local, video] = [this.#local, this.#video];
    const fetching = new AbortController();
    this.#fetching = fetching;
    try {
      const image = await local.frame(frame, fetching.signal);
      const { displayWidth: width, displayHeight: height } = image;
      if (video === this.#video && turn >= this.#shown.turn && !fetching.signal.aborted) {
        this.#stage.drawTurned(image, width, height, local.rotation, local.mirrored);
        this.#drawn({ turn, frame, exact: true, asked, rows: undefined, by: "local" }, width, height);
      }
      image.close();
    } catch (error) {
      if (!fetching.signal.aborted && video === this.#video) {
        const code = error instanceof Refusal ? error.code : "undecoded";
        this.#failed(turn, frame, { error: code, message: error.message });
      }
    }
  }

  #failed(turn, frame, { error, message }) {
    if (turn !== this.#turn) return;
    // Taken back by the player or by a newer wish: that has its own answer.
    if (error === "cancelled") return;
    this.#settled = true;
    this.dispatchEvent(new CustomEvent("fail", { detail: { frame, error, message } }));
  }
}
