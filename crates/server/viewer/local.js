// Decoding here: where the browser knows H.265, it is given the access units that a frame depends on.

import * as api from "./api.js";

/** Whether this browser decodes such a video, and a sentence about it. */
export async function support({ codec, width, height }) {
  if (!("VideoDecoder" in window)) {
    const why = isSecureContext
      ? "This browser cannot decode single frames of H.265 (it has no WebCodecs). The server does."
      : "Browsers decode H.265 frames for pages on https:// or localhost only. The server does here.";
    return { ok: false, why };
  }
  // Parameter sets come with the first access unit.
  const config = { codec: codec.replace(/^hvc1/, "hev1"), codedWidth: width, codedHeight: height };
  const { supported } = await VideoDecoder.isConfigSupported(config).catch(() => ({}));
  const why = supported
    ? "This browser decodes H.265 itself: on, it is sent the compressed pictures; off, JPEGs."
    : `This browser does not decode H.265 (${codec}). The server does.`;
  return { ok: supported === true, why };
}

/**
 * Takes the body of `/gop` apart: 4 bytes of length, a header in JSON, the access units.
 * @param {ArrayBuffer} body
 */
export function parse(body) {
  const length = new DataView(body).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
  let at = 4 + length;
  const chunks = header.units.map(({ bytes, type, timestamp }) => {
    const data = new Uint8Array(body, at, bytes);
    at += bytes;
    return { type, timestamp, data };
  });
  return { header, chunks };
}

/** Frames of one video, decoded in this browser. */
export class Local {
  #path;
  /** @type {VideoDecoder|null} */
  #decoder = null;

  constructor(path) {
    this.#path = path;
    this.rotation = 0;
    this.mirrored = false;
  }

  /** @param {AbortSignal} signal @returns {Promise<VideoFrame>} to be closed by who takes it */
  async frame(number, signal) {
    const { header, chunks } = parse(await api.gop(this.#path, number, signal));
    signal.throwIfAborted();
    [this.rotation, this.mirrored] = [header.rotation, header.mirrored];
    let shown = null;
    let failure = null;
    const decoder = new VideoDecoder({
      output(frame) {
        // All others are decoded only because this one refers to them.
        if (frame.timestamp === header.timestamp && !shown) shown = frame;
        else frame.close();
      },
      error: (error) => (failure = error),
    });
    this.close();
    this.#decoder = decoder;
    try {
      const { codec, width, height } = header;
      decoder.configure({ codec, codedWidth: width, codedHeight: height, optimizeForLatency: true });
      for (const chunk of chunks) decoder.decode(new EncodedVideoChunk(chunk));
      await decoder.flush();
    } catch (error) {
      shown?.close();
      throw failure ?? error;
    } finally {
      if (decoder.state !== "closed") decoder.close();
    }
    if (!shown) throw failure ?? new Error("The decoder gave no such picture.");
    return shown;
  }

  /** Gives up what is being decoded. */
  close() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
  }
}
