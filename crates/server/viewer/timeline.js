// The timeline: a filmstrip, marks where decoding can start, a ruler, and a slider over all of it.

import { clock, number } from "./words.js";

/** Of the canvas, in CSS pixels: the strip, the marks below it, the ruler. */
const STRIP = 56;
const MARKS = { top: 60, height: 6 };
const RULER = 80;
/** Between labels of the ruler, at least. */
const LABEL = 84;
/** Seconds between labels. */
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

/** Events: `point` (detail `{frame, asked}`). */
export class Timeline extends EventTarget {
  #element;
  #canvas;
  #head;
  #hover;
  /** @type {import("./index.js").FrameIndex|null} */
  #index = null;
  /** @type {import("./film.js").Film|null} */
  #film = null;
  #frame = 0;
  #dragging = null;
  #drawing = 0;

  constructor(element, canvas, head, hover) {
    super();
    [this.#element, this.#canvas, this.#head, this.#hover] = [element, canvas, head, hover];
    new ResizeObserver(() => {
      this.redraw();
      this.#place();
    }).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    element.addEventListener("pointerdown", (event) => this.#down(event));
    // Where the browser tells of moves at once, and not only before it paints, that is heard.
    const raw = "onpointerrawupdate" in window;
    element.addEventListener(raw ? "pointerrawupdate" : "pointermove", (event) => this.#move(event));
    element.addEventListener("pointermove", (event) => this.#hint(event));
    element.addEventListener("pointerleave", () => this.#hint(null));
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => this.#up(event));
    }
  }

  /** The width of the strip. */
  get width() {
    return this.#element.clientWidth;
  }

  get stripHeight() {
    return STRIP;
  }

  /** @param {import("./index.js").FrameIndex|null} index */
  open(index) {
    this.#index = index;
    this.#film = null;
    this.#frame = 0;
    this.#dragging = null;
    this.#hint(null);
    const element = this.#element;
    element.setAttribute("aria-disabled", String(index === null));
    element.setAttribute("aria-valuemax", String(index?.last ?? 0));
    if (!index) element.setAttribute("aria-valuetext", "No video");
    this.#head.hidden = index === null;
    this.#place();
    this.redraw();
  }

  /** @param {import("./film.js").Film|null} film */
  set film(film) {
    this.#film = film;
    this.redraw();
  }

  /** Where the head stands. */
  set frame(frame) {
    this.#frame = frame;
    this.#place();
  }

  /** Draws once before the next paint. */
  redraw() {
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#draw();
    });
  }

  #place() {
    const index = this.#index;
    if (!index) return;
    const x = ((this.#frame + 0.5) / index.count) * this.width;
    this.#head.style.transform = `translateX(${x}px)`;
    const element = this.#element;
    element.setAttribute("aria-valuenow", String(this.#frame));
    const time = clock(index.time(this.#frame));
    const text = `Frame ${this.#frame} of 0 to ${index.last}, at ${time}`;
    element.setAttribute("aria-valuetext", text);
  }

  #frameAt(clientX) {
    const { left, width } = this.#element.getBoundingClientRect();
    return this.#index.clamp(Math.floor(((clientX - left) / width) * this.#index.count));
  }

  #down(event) {
    if (!this.#index || event.button !== 0 || this.#dragging !== null) return;
    this.#element.setPointerCapture(event.pointerId);
    this.#element.focus({ preventScroll: true });
    this.#element.classList.add("dragging");
    this.#dragging = event.pointerId;
    this.#point(event);
    event.preventDefault();
  }

  #move(event) {
    if (this.#dragging === event.pointerId && this.#index) this.#point(event);
  }

  #up(event) {
    if (this.#dragging !== event.pointerId) return;
    this.#dragging = null;
    this.#element.classList.remove("dragging");
    if (event.pointerType !== "mouse") this.#hint(null);
  }

  #point(event) {
    const detail = { frame: this.#frameAt(event.clientX), asked: event.timeStamp };
    this.dispatchEvent(new CustomEvent("point", { detail }));
  }

  /** Says which frame is under the pointer. */
  #hint(event) {
    this.#hover.hidden = !event || !this.#index;
    if (this.#hover.hidden) return;
    const frame = this.#frameAt(event.clientX);
    const { left, width } = this.#element.getBoundingClientRect();
    this.#hover.textContent = `${number(frame)} · ${clock(this.#index.time(frame), 2)}`;
    const half = this.#hover.offsetWidth / 2;
    const x = Math.min(width - half, Math.max(half, event.clientX - left));
    this.#hover.style.transform = `translateX(${x - half}px)`;
  }

  #draw() {
    const canvas = this.#canvas;
    const [width, scale] = [this.width, devicePixelRatio];
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(RULER * scale);
    if (width === 0) return;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.fillStyle = colour("--slot");
    context.beginPath();
    context.roundRect(0, 0, width, STRIP, 6);
    context.fill();
    const index = this.#index;
    if (!index || index.count === 0) return;
    if (this.#film) {
      context.save();
      context.clip();
      this.#film.draw(context, width, STRIP, index.count);
      context.restore();
    }
    this.#drawMarks(context, width, colour("--mark"));
    this.#drawRuler(context, width, colour("--quiet"), style.fontFamily);
  }

  /** One stroke for each place where decoding can start; strokes that meet become a band. */
  #drawMarks(context, width, colour) {
    const index = this.#index;
    context.fillStyle = colour;
    let drawn = -2;
    for (let frame = 0; frame < index.known; frame++) {
      if (!index.keyframe[frame]) continue;
      const x = Math.floor((frame / index.count) * width);
      if (x <= drawn) continue;
      context.fillRect(x, MARKS.top, 1.5, MARKS.height);
      drawn = x;
    }
  }

  #drawRuler(context, width, colour, family) {
    const index = this.#index;
    const whole = Math.max(index.time(index.last), 1e-3);
    const most = Math.max(1, Math.floor(width / LABEL));
    const step = STEPS.find((s) => whole / s <= most) ?? Math.ceil(whole / most / 3600) * 3600;
    context.fillStyle = colour;
    context.font = `11px ${family}`;
    context.textBaseline = "alphabetic";
    const digits = step < 1 ? 1 : 0;
    let free = 0;
    for (let n = 0; n * step <= whole; n++) {
      const x = ((index.at(n * step) + 0.5) / index.count) * width;
      const label = clock(n * step, digits);
      const wide = context.measureText(label).width;
      const left = n === 0 ? 0 : Math.min(width - wide, x - wide / 2);
      if (left < free) continue;
      context.fillText(label, left, RULER - 2);
      free = left + wide + 12;
    }
  }
}
