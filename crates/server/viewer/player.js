// Plays at the video's rate as far as the link allows: the clock does not slow down for pictures that
// are late, frames are left out instead, as many as must be. Only where nothing comes at all, the clock
// waits.

import { decode } from "./projector.js";

/** Pictures that are asked for ahead. */
const AHEAD = 8;
/** Seconds that the clock goes on alone. */
const PATIENCE = 0.5;

/** Events: `frame` (detail: its number), `end`. */
export class Player extends EventTarget {
  #link;
  #stage;
  #projector;
  /** @type {import("./index.js").FrameIndex|null} */
  #index = null;
  #run = 0;
  #playing = false;
  /** Decoded pictures that wait for their time, by frame. */
  #ready = new Map();
  /** Requests without an answer. */
  #due = new Set();
  /** The frame to be asked for next; beyond the last one when all are. */
  #next = 0;
  /** So many frames on from the one before. */
  #stride = 1;
  /** Answers for frames before this one say nothing of the stride. */
  #judged = 0;
  /** The video's time at the moment `#began`; the clock starts with the first picture. */
  #from = 0;
  /** @type {number|null} */
  #began = null;
  #shown = 0;
  /** Mean milliseconds from request to picture. */
  #latency = 40;

  constructor(link, stage, projector) {
    super();
    [this.#link, this.#stage, this.#projector] = [link, stage, projector];
  }

  get playing() {
    return this.#playing;
  }

  /** @param {import("./index.js").FrameIndex} index */
  start(index, frame) {
    this.stop();
    this.#index = index;
    this.#playing = true;
    const from = frame >= index.last ? 0 : frame;
    this.#shown = this.#next = this.#judged = from;
    this.#stride = 1;
    this.#from = index.time(from);
    this.#began = null;
    const run = ++this.#run;
    const tick = () => {
      if (run !== this.#run) return;
      this.#tick();
      if (run === this.#run) requestAnimationFrame(tick);
    };
    tick();
  }

  /** Stops; gives the frame that was shown last. */
  stop() {
    if (this.#playing) {
      this.#playing = false;
      this.#run++;
      for (const id of this.#due) this.#link.cancel(id);
      this.#due.clear();
      for (const { image } of this.#ready.values()) image.close();
      this.#ready.clear();
    }
    return this.#shown;
  }

  /** The video's time now. */
  #time() {
    return this.#began === null ? this.#from : this.#from + (performance.now() - this.#began) / 1000;
  }

  #tick() {
    const index = this.#index;
    if (this.#began === null && this.#ready.size > 0) this.#began = performance.now();
    const alone = this.#time() - index.time(this.#shown);
    if (alone > PATIENCE && this.#ready.size === 0) {
      // Nothing has come: the clock waits.
      this.#from = index.time(this.#shown) + PATIENCE;
      this.#began = performance.now();
    }
    const time = this.#time();
    let newest = -1;
    for (const frame of this.#ready.keys()) {
      if (index.time(frame) <= time && frame > newest) newest = frame;
    }
    if (newest >= 0) {
      for (const [frame, { image, rows }] of this.#ready) {
        if (frame > newest) continue;
        if (frame === newest) this.#projector.show(image, frame, rows);
        image.close();
        this.#ready.delete(frame);
      }
      this.#shown = newest;
      this.dispatchEvent(new CustomEvent("frame", { detail: newest }));
      if (newest >= index.last) {
        this.#finish();
        return;
      }
    }
    this.#ask(time);
  }

  #finish() {
    this.stop();
    this.dispatchEvent(new Event("end"));
  }

  #ask(time) {
    const { last } = this.#index;
    // What would come too late is not asked for; the last frame always is.
    const reachable = this.#index.at(time + this.#latency / 1000);
    if (this.#began !== null && this.#next < reachable) this.#next = Math.min(reachable, last);
    while (this.#due.size + this.#ready.size < AHEAD && this.#next <= last) {
      const frame = this.#next;
      this.#next = frame === last ? last + 1 : Math.min(frame + this.#stride, last);
      this.#request(frame);
    }
  }

  #request(frame) {
    const run = this.#run;
    const rows = this.#stage.rows();
    const asked = performance.now();
    const options = { priority: "fifo" };
    if (rows !== undefined) options.height = rows;
    const id = this.#link.request(frame, options, async (answer) => {
      this.#due.delete(id);
      if (run !== this.#run) return;
      if (answer.error) {
        // One broken frame is passed over; the connection's loss ends the play.
        if (answer.error === "lost" || frame >= this.#index.last) this.#finish();
        return;
      }
      this.#latency += (performance.now() - asked - this.#latency) / 8;
      this.#judge(frame);
      const image = await decode(answer.bytes).catch(() => null);
      if (!image) return;
      if (run !== this.#run || frame < this.#shown) image.close();
      else this.#ready.set(frame, { image, rows });
    });
    this.#due.add(id);
  }

  /** Leaves out more frames where pictures are late, and fewer where many wait for their time. */
  #judge(frame) {
    if (frame < this.#judged || this.#began === null) return;
    const before = this.#stride;
    if (this.#time() > this.#index.time(frame)) {
      this.#stride = Math.min(this.#stride * 2, Math.ceil(this.#index.fps));
    } else if (this.#ready.size >= AHEAD / 2) {
      this.#stride = Math.max(1, this.#stride - 1);
    }
    if (this.#stride !== before) this.#judged = this.#next;
  }
}
