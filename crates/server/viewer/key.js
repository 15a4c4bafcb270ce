// The token that a server asks for: kept as long as the tab is, shown to nobody, in no address.

const PLACE = "bucket-streamer-token";
/** What the server answers, so that the protocol that carries the token need not be echoed. */
const PROTOCOL = "bucket-streamer.v1";

/** Events: `wanted` (detail `{wrong}`: there was one, and it is not let in). */
class Key extends EventTarget {
  #token = "";

  constructor() {
    super();
    try {
      this.#token = sessionStorage.getItem(PLACE) ?? "";
    } catch {
      // Without a memory, it is asked for after each reload.
    }
  }

  set token(token) {
    this.#token = token;
    try {
      sessionStorage.setItem(PLACE, token);
    } catch {
      // As above.
    }
  }

  /** For `fetch`. */
  get headers() {
    return this.#token === "" ? {} : { authorization: `Bearer ${this.#token}` };
  }

  /** For a WebSocket, which browsers let have no header. */
  get protocols() {
    if (this.#token === "") return [];
    const bytes = String.fromCharCode(...new TextEncoder().encode(this.#token));
    const coded = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    return [PROTOCOL, `bearer.${coded}`];
  }

  /** The server has said that it wants one, or another one. */
  refused() {
    this.dispatchEvent(new CustomEvent("wanted", { detail: { wrong: this.#token !== "" } }));
  }
}

export const key = new Key();
