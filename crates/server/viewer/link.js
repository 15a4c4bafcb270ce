// The WebSocket to the server, as docs/protocol.md says. It connects again by itself; what was due
// on the lost connection fails, and who asked asks anew.

/** Waits between attempts, in milliseconds. */
const PAUSES = [250, 500, 1000, 2000, 4000, 8000];
/** After so long a silence with something due, the server is asked whether it is there. */
const SILENCE = 5000;
/** After so long a silence it is not. */
const DEATH = 15000;

/** What the server refused, with its stable code. */
export class Refusal extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * Events: `open`; `lost` (detail `{again}`: milliseconds until the next attempt); `index` and
 * `stats` (detail: the message).
 */
export class Link extends EventTarget {
  #url;
  /** @type {() => string[]} */
  #protocols;
  /** It does not connect by itself: a token is waited for. */
  #held = false;
  /** @type {WebSocket|null} */
  #socket = null;
  /** The `Frame` whose picture is the next message. */
  #announced = null;
  /** Who waits for answers, by `request_id`. */
  #due = new Map();
  /** Who waits for a `VideoSet`, in order. */
  #opening = [];
  /** The `Error` that came before a `VideoSet` with `ok` false. */
  #refused = null;
  #next = 1;
  #attempt = 0;
  #timer = 0;
  #heard = 0;

  /** @param {() => string[]} protocols asked for with each attempt: one of them carries the token */
  constructor(url, protocols) {
    super();
    this.#url = url;
    this.#protocols = protocols;
    setInterval(() => this.#watch(), 1000);
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.now();
    });
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  get held() {
    return this.#held;
  }

  /** Waits until `renew` is called. */
  hold() {
    this.#held = true;
    clearTimeout(this.#timer);
  }

  /** Connects anew: there is another token. */
  renew() {
    this.#held = false;
    const socket = this.#socket;
    if (socket) {
      socket.close();
      this.#lose(socket);
    }
    this.#attempt = 0;
    this.now();
  }

  /** Connects now, if it is not connected or connecting. */
  now() {
    if (this.#socket || this.#held) return;
    clearTimeout(this.#timer);
    const socket = new WebSocket(this.#url, this.#protocols());
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#attempt = 0;
      this.#heard = performance.now();
      this.dispatchEvent(new Event("open"));
    };
    socket.onmessage = ({ data }) => {
      this.#heard = performance.now();
      if (typeof data === "string") this.#text(JSON.parse(data));
      else this.#picture(data);
    };
    socket.onclose = () => this.#lose(socket);
  }

  /** @param {string} path @returns {Promise<object>} the `VideoSet` */
  setVideo(path) {
    return new Promise((resolve, reject) => {
      if (!this.open) return reject(new Refusal("lost", "The connection is lost."));
      this.#opening.push({ resolve, reject });
      this.#send({ type: "SetVideo", path });
    });
  }

  /**
   * Asks for one frame. `answer` is called with `{frame, preview, bytes}` for each picture, and
   * with `{error, message}` when there will be none.
   * @returns {number} the request's name
   */
  request(frame, options, answer) {
    const id = this.#next++;
    if (!this.open) {
      queueMicrotask(() => answer({ error: "lost", message: "The connection is lost." }));
      return id;
    }
    this.#due.set(id, answer);
    this.#send({ type: "RequestFrames", frames: [{ frame, index: 0 }], request_id: id, ...options });
    return id;
  }

  /** Takes back all that is due, or one request. */
  cancel(id) {
    this.#send(id === undefined ? { type: "Cancel" } : { type: "Cancel", request_id: id });
  }

  getIndex(from, count) {
    this.#send({ type: "GetIndex", from, count });
  }

  getStats() {
    this.#send({ type: "GetStats" });
  }

  #send(message) {
    if (this.open) this.#socket.send(JSON.stringify(message));
  }

  #text(message) {
    switch (message.type) {
      case "Frame":
        this.#announced = message;
        break;
      case "FrameError": {
        const answer = this.#due.get(message.request_id);
        this.#due.delete(message.request_id);
        answer?.({ error: message.error, message: message.message });
        break;
      }
      case "VideoSet": {
        const { resolve, reject } = this.#opening.shift() ?? {};
        if (message.ok) resolve?.(message);
        else reject?.(this.#refused ?? new Refusal("not_found", "The video cannot be opened."));
        this.#refused = null;
        break;
      }
      case "Error":
        if (message.error) this.#refused = new Refusal(message.error, message.message);
        else console.warn("bucket-streamer:", message.message);
        break;
      case "Index":
        this.dispatchEvent(new CustomEvent("index", { detail: message }));
        break;
      case "Stats":
        this.dispatchEvent(new CustomEvent("stats", { detail: message }));
        break;
      default:
    }
  }

  #picture(bytes) {
    const message = this.#announced;
    this.#announced = null;
    if (!message) return;
    const answer = this.#due.get(message.request_id);
    if (!message.preview) this.#due.delete(message.request_id);
    answer?.({ frame: message.frame, preview: message.preview === true, bytes });
  }

  #watch() {
    if (!this.open || this.#due.size + this.#opening.length === 0) {
      this.#heard = performance.now();
      return;
    }
    const silent = performance.now() - this.#heard;
    if (silent > DEATH) {
      const socket = this.#socket;
      socket.close();
      // A dead line answers no closing handshake either.
      this.#lose(socket);
    } else if (silent > SILENCE) this.getStats();
  }

  #lose(socket) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    this.#announced = null;
    this.#refused = null;
    const lost = new Refusal("lost", "The connection is lost.");
    const [due, opening] = [[...this.#due.values()], this.#opening];
    this.#due.clear();
    this.#opening = [];
    const pause = PAUSES[Math.min(this.#attempt++, PAUSES.length - 1)];
    // Partly chance: after a restart, not all come back at the same moment.
    const again = pause * (0.75 + Math.random() / 2);
    this.#timer = setTimeout(() => this.now(), again);
    this.dispatchEvent(new CustomEvent("lost", { detail: { again } }));
    for (const { reject } of opening) reject(lost);
    for (const answer of due) answer({ error: "lost", message: lost.message });
  }
}
