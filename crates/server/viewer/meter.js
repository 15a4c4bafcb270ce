// What the pictures cost: latencies as they were felt here, and what the server counts for this
// connection.

import { bytes, milliseconds, number } from "./words.js";

const LATENCIES = 60;
/** Between two questions to the server. */
const PAUSE = 300;

export class Meter {
  #link;
  #latencies = [];
  #elements;
  #timer = 0;
  #picture = "";

  /** @param {Record<string, HTMLElement>} elements */
  constructor(link, elements) {
    this.#link = link;
    this.#elements = elements;
    link.addEventListener("stats", ({ detail }) => this.#stats(detail));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** A picture that somebody waited for so long. */
  felt(ms) {
    this.#latencies.push(ms);
    if (this.#latencies.length > LATENCIES) this.#latencies.shift();
    this.#elements.latency.textContent = milliseconds(ms);
    this.#draw();
  }

  picture(width, height, by) {
    const where = { server: "JPEG", here: "JPEG, kept", local: "decoded here" }[by];
    const text = `${width} × ${height}, ${where}`;
    if (text !== this.#picture) this.#elements.picture.textContent = this.#picture = text;
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#link.getStats();
    }, PAUSE);
  }

  redraw() {
    this.#draw();
  }

  #stats(stats) {
    const { units, hits, bytes: received } = this.#elements;
    const { access_units_decoded: decoded, access_units_needed: needed } = stats;
    units.textContent = `${number(decoded)} / ${number(needed)}`;
    units.title = `${number(decoded)} access units were decoded, ${number(needed)} are what these frames depend on, each taken alone`;
    hits.textContent = `${number(stats.cache_hits)} of ${number(stats.frames)}`;
    received.textContent = bytes(stats.image_bytes);
  }

  #draw() {
    const canvas = this.#elements.spark;
    const scale = devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (width === 0) return;
    [canvas.width, canvas.height] = [width * scale, height * scale];
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = getComputedStyle(canvas).color;
    // By the square root, so that one slow picture does not flatten the others.
    const top = Math.sqrt(Math.max(60, ...this.#latencies));
    const step = width / LATENCIES;
    this.#latencies.forEach((ms, n) => {
      const tall = Math.max(1, (Math.sqrt(ms) / top) * height);
      const left = width - (this.#latencies.length - n) * step;
      context.fillRect(left, height - tall, Math.max(1, step - 0.5), tall);
    });
  }
}
