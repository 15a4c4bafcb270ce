// Where the viewer is: which video, which frame. It stands in the address behind the `#`, so that
// a link is a frame.

/** @typedef {{video: string|null, frame: number}} Place */

/** @param {string} hash @returns {Place} */
export function read(hash) {
  const place = { video: null, frame: 0 };
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    const [name, value] = at < 0 ? [part, ""] : [part.slice(0, at), decode(part.slice(at + 1))];
    if (name === "video" && value) place.video = value;
    if (name === "frame" && /^\d{1,15}$/.test(value)) place.frame = Number(value);
  }
  return place;
}

/** @param {Place} place */
export function write({ video, frame }) {
  return video === null ? "" : `#video=${encode(video)}&frame=${frame}`;
}

/** A key as part of a path: its slashes stay, all else is escaped. */
export function encode(key) {
  return key.split("/").map(encodeURIComponent).join("/");
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
