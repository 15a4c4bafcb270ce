// The HTTP interface: what is not a scrub. Addresses are relative to the page, so that a proxy may
// serve all of it below a path of its own.

import { key } from "./key.js";
import { Refusal } from "./link.js";
import { encode } from "./place.js";

/** Entries of a folder that are asked for at once. */
const PAGE = 200;

/** @param {string} path @param {Record<string, string|number|undefined>} query */
function address(path, query = {}) {
  const url = new URL(path, document.baseURI);
  url.hash = "";
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null) url.searchParams.set(name, String(value));
  }
  return url;
}

async function get(url, signal) {
  const response = await fetch(url, { signal, headers: key.headers });
  if (response.ok) return response;
  if (response.status === 401) key.refused();
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // A proxy's own page.
  }
  const words = problem.detail ?? problem.title ?? `The server answers ${response.status}.`;
  throw new Refusal(problem.code ?? String(response.status), words);
}

/** The address of the WebSocket. */
export function socket() {
  const url = address("ws");
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

function video(path, rest) {
  return `v1/videos/${encode(path)}/${rest}`;
}

/**
 * One page of a folder.
 * @returns {Promise<{folders: string[], videos: {path: string, size: number, modified?: string}[], cursor: string|null}>}
 */
export async function list(prefix, cursor, signal) {
  const url = address("v1/videos", { prefix: prefix || undefined, cursor, limit: PAGE });
  const page = await (await get(url, signal)).json();
  const folders = page.folders.map((folder) => folder.prefix);
  return { folders, videos: page.videos, cursor: page.cursor ?? null };
}

/** One picture, by its number. */
export async function frame(path, number, extension, quality, signal) {
  const url = address(video(path, `frame.${extension}`), { frame: number, quality });
  return (await get(url, signal)).blob();
}

/** Small pictures of the whole video in one sheet, and which frame lies where in it. */
export async function storyboard(path, query, signal) {
  const url = address(video(path, "storyboard.json"), query);
  const board = await (await get(url, signal)).json();
  const sheet = await (await get(new URL(board.url, url), signal)).blob();
  return { board, sheet };
}

/** The access units that a frame needs, as they are. */
export async function gop(path, number, signal) {
  const url = address(video(path, "gop"), { frame: number });
  return (await get(url, signal)).arrayBuffer();
}
