// Plays at the video's rate as far as the link allows: the clock never slows down for pictures that
// are late, frames are left out instead. Only where nothing comes at all, the clock waits.

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
  #next = 0;
  /** The video's time at the moment `#began`. */
  #from = 0;
  #began = 0;
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
    this.#shown = from;
    this.#next = from;
    this.#from = index.time(from);
    this.#began = performance.now();
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

  #tick() {
    const index = this.#index;
    const now = performance.now();
    let time = this.#from + (now - this.#began) / 1000;
    const shownAt = index.time(this.#shown);
    if (time - shownAt > PATIENCE && this.#ready.size === 0 && this.#shown < index.last) {
      // Nothing has come: the clock waits.
      [this.#from, this.#began] = [shownAt + PATIENCE, now];
      time = this.#from;
    }
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
        this.stop();
        this.dispatchEvent(new Event("end"));
        return;
      }
    }
    this.#ask(time);
  }

  #ask(time) {
    const index = this.#index;
    // What would come too late is not asked for; the last frame always is.
    const reachable = index.at(time + this.#latency / 1000);
    if (this.#next < reachable) this.#next = Math.min(reachable, index.last);
    // Where pictures take longer than they are shown, every second or third is asked for.
    while (this.#due.size + this.#ready.size < AHEAD && this.#next <= index.last) {
      this.#request(this.#next);
      this.#next += 1;
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
        if (answer.error === "lost" || frame >= this.#index.last) {
          this.stop();
          this.dispatchEvent(new Event("end"));
        }
        return;
      }
      this.#latency += (performance.now() - asked - this.#latency) / 8;
      const image = await decode(answer.bytes).catch(() => null);
      if (!image) return;
      if (run !== this.#run || frame <= this.#shown && this.#ready.size > 0) image.close();
      else this.#ready.set(frame, { image, rows });
    });
    this.#due.add(id);
  }
}
