// The picture: a canvas with exactly the pixels that came, fitted into the stage, zoomed and moved
// by CSS alone.

const MOST = 32;
/** From so many screen pixels for one of the picture on, pixels are shown as squares. */
const SQUARES = 3;

export class Stage extends EventTarget {
  #element;
  #lens;
  #canvas;
  #context;
  /** Of the picture as it is to be seen, in picture pixels. */
  #width = 16;
  #height = 9;
  /** Rows that the server can give. */
  #rows = 9;
  #zoom = 1;
  #x = 0;
  #y = 0;
  /** Fingers on the stage, by pointer. */
  #fingers = new Map();
  #tapped = 0;

  constructor(element, lens, canvas) {
    super();
    [this.#element, this.#lens, this.#canvas] = [element, lens, canvas];
    this.#context = canvas.getContext("2d", { alpha: false });
    new ResizeObserver(() => this.#lay()).observe(element);
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("dblclick", (event) => {
      if (!event.target.closest("button")) this.reset();
    });
    lens.addEventListener("pointerdown", (event) => this.#down(event));
    lens.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      lens.addEventListener(end, (event) => this.#up(event));
    }
  }

  get zoom() {
    return this.#zoom;
  }

  /** Another video: its size on the screen. */
  open({ width, height, pixel_aspect_ratio: [horizontal, vertical] }) {
    this.#rows = height;
    this.#width = (width * horizontal) / vertical;
    this.#height = height;
    this.reset();
    this.#lay();
  }

  /** @param {CanvasImageSource} image */
  draw(image, width, height) {
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      [this.#canvas.width, this.#canvas.height] = [width, height];
      this.#sharpen();
    }
    this.#context.drawImage(image, 0, 0);
  }

  /** A picture of the decoder here, which is turned as it was coded. */
  drawTurned(image, width, height, rotation, mirrored) {
    const [w, h] = rotation % 180 === 0 ? [width, height] : [height, width];
    [this.#canvas.width, this.#canvas.height] = [w, h];
    const context = this.#context;
    context.translate(w / 2, h / 2);
    context.rotate((rotation * Math.PI) / 180);
    if (mirrored) context.scale(-1, 1);
    context.drawImage(image, -width / 2, -height / 2, width, height);
    context.resetTransform();
    this.#sharpen();
  }

  /**
   * The rows that are worth asking for: as many as are seen, in steps, so that windows of nearly
   * the same size share what the server keeps. `undefined`: all.
   */
  rows() {
    const STEP = 120;
    if (this.#zoom > 1) return undefined;
    const seen = Math.ceil((this.#fitted().height * devicePixelRatio) / STEP) * STEP;
    return seen >= this.#rows ? undefined : Math.max(STEP, seen);
  }

  reset() {
    [this.#zoom, this.#x, this.#y] = [1, 0, 0];
    this.#place();
  }

  /** Zooms by a factor around a point of the window, else around the middle. */
  zoomBy(factor, clientX, clientY) {
    const box = this.#element.getBoundingClientRect();
    const x = (clientX ?? box.left + box.width / 2) - box.left - box.width / 2;
    const y = (clientY ?? box.top + box.height / 2) - box.top - box.height / 2;
    const zoom = Math.min(MOST, Math.max(1, this.#zoom * factor));
    const by = zoom / this.#zoom;
    // What is under the pointer stays there.
    this.#x = x - (x - this.#x) * by;
    this.#y = y - (y - this.#y) * by;
    this.#zoom = zoom;
    this.#place();
  }

  #fitted() {
    const { clientWidth, clientHeight } = this.#element;
    const scale = Math.min(clientWidth / this.#width, clientHeight / this.#height);
    return { width: this.#width * scale, height: this.#height * scale };
  }

  #lay() {
    const { width, height } = this.#fitted();
    this.#canvas.style.width = `${width}px`;
    this.#canvas.style.height = `${height}px`;
    this.#place();
  }

  #place() {
    const { width, height } = this.#fitted();
    const { clientWidth, clientHeight } = this.#element;
    // The picture leaves no side of the stage that it can fill.
    const most = (picture, stage) => Math.max(0, (picture * this.#zoom - stage) / 2);
    const [mx, my] = [most(width, clientWidth), most(height, clientHeight)];
    this.#x = Math.min(mx, Math.max(-mx, this.#x));
    this.#y = Math.min(my, Math.max(-my, this.#y));
    this.#canvas.style.transform = `translate(${this.#x}px, ${this.#y}px) scale(${this.#zoom})`;
    this.#element.classList.toggle("zoomed", this.#zoom > 1);
    this.#sharpen();
    this.dispatchEvent(new Event("zoom"));
  }

  #sharpen() {
    const scale = (this.#fitted().height / this.#canvas.height) * this.#zoom;
    this.#canvas.classList.toggle("squares", scale >= SQUARES && this.#zoom > 1);
  }

  #wheel(event) {
    event.preventDefault();
    // Lines and pages of some mice are as good as so many pixels.
    const unit = [1, 16, 100][event.deltaMode] ?? 1;
    const delta = Math.min(120, Math.max(-120, event.deltaY * unit));
    this.zoomBy(Math.exp(-delta / 300), event.clientX, event.clientY);
  }

  #down(event) {
    if (event.button !== 0) return;
    this.#lens.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (event.pointerType === "touch" && this.#fingers.size === 1) {
      // Browsers make no double click of taps where touch is handled here.
      if (event.timeStamp - this.#tapped < 300) this.reset();
      this.#tapped = event.timeStamp;
    }
  }

  #move(event) {
    const before = this.#fingers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    if (this.#fingers.size === 1) {
      this.#x += now.x - before.x;
      this.#y += now.y - before.y;
      this.#place();
    } else {
      const other = [...this.#fingers].find(([id]) => id !== event.pointerId)?.[1] ?? before;
      const apart = (p) => Math.hypot(p.x - other.x, p.y - other.y) || 1;
      const [x, y] = [(now.x + other.x) / 2, (now.y + other.y) / 2];
      this.zoomBy(apart(now) / apart(before), x, y);
    }
    this.#fingers.set(event.pointerId, now);
  }

  #up(event) {
    this.#fingers.delete(event.pointerId);
  }
}
