// The viewer: what the parts tell each other.

import * as api from "./api.js";
import { Film } from "./film.js";
import { FrameIndex, PIECE } from "./index.js";
import { key } from "./key.js";
import { Shelf } from "./shelf.js";
import { Link } from "./link.js";
import { Local, support } from "./local.js";
import { Meter } from "./meter.js";
import { read, write } from "./place.js";
import { Player } from "./player.js";
import { Projector } from "./projector.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { base, clock, number } from "./words.js";

const $ = (id) => document.getElementById(id);

const link = new Link(api.socket(), () => key.protocols);
const stage = new Stage($("stage"), $("lens"), $("picture"));
const projector = new Projector(link, stage);
const player = new Player(link, stage, projector);
const timeline = new Timeline($("timeline"), $("strip"), $("head"), $("hover"));
const shelf = new Shelf({
  crumbs: $("crumbs"),
  entries: $("entries"),
  note: $("shelf-note"),
  more: $("more"),
});
const meter = new Meter(link, {
  latency: $("m-latency"),
  spark: $("m-spark"),
  units: $("m-units"),
  hits: $("m-hits"),
  bytes: $("m-bytes"),
  picture: $("m-picture"),
});

/** The video that is wanted, and the frame. */
let wanted = { video: null, frame: 0 };
/** The `VideoSet` of the video that is set; `null` while there is none. */
let info = null;
/** @type {FrameIndex|null} */
let index = null;
/** Counts videos that were chosen. */
let choice = 0;
/** What belongs to the chosen video and is loaded beside it. */
let beside = new AbortController();

// ── Looks ────────────────────────────────────────────────────────────────────────────────────

/** One of: loading, opening, shown, welcome, empty, broken, broken-frame. */
function look(state, { icon = "video", title = "", text = "", action = null } = {}) {
  $("stage").dataset.state = state;
  if (state === "shown") return;
  $("notice-icon").firstElementChild.setAttribute("href", `#i-${icon}`);
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  const button = $("notice-action");
  button.hidden = action === null;
  button.textContent = action?.label ?? "";
  button.onclick = action?.run ?? null;
}

let toasting = 0;
function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  clearTimeout(toasting);
  toasting = setTimeout(() => $("toast").classList.remove("on"), 2500);
}

let saying = 0;
/** For those who hear the page: said when it has been still for a moment. */
function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => ($("said").textContent = text), 400);
}

const NEEDS_VIDEO = ["frame", "first", "back-ten", "back", "play", "next", "next-ten", "last", "fit", "save", "copy"];
function enable(on) {
  for (const id of NEEDS_VIDEO) $(id).disabled = !on;
}

// ── Choosing a video ─────────────────────────────────────────────────────────────────────────

async function choose({ video, frame }) {
  if (video === wanted.video && info) {
    if (frame !== wanted.frame) go(frame);
    return;
  }
  const mine = ++choice;
  leave();
  wanted = { video, frame };
  shelf.current = video;
  if (video === null) {
    document.title = "bucket-streamer";
    $("title").textContent = "bucket-streamer";
    welcome();
    return;
  }
  document.title = `${base(video)} – bucket-streamer`;
  $("title").textContent = base(video);
  $("title").title = video;
  look("opening", { title: `Opening ${base(video)} …` });
  if (!link.open) {
    // `open` of the link goes on here.
    link.now();
    return;
  }
  try {
    const set = await link.setVideo(video);
    if (mine === choice) opened(set);
  } catch (error) {
    if (mine === choice && error.code !== "lost") refused(error);
  }
}

/** Lets go of the video that was set. */
function leave() {
  player.stop();
  beside.abort();
  beside = new AbortController();
  info = index = null;
  projector.open();
  timeline.open(null);
  enable(false);
  $("facts").textContent = "";
  $("frame").value = "–";
  $("count").textContent = "";
  $("time").textContent = "";
  $("badge").hidden = true;
  $("stage").classList.remove("late");
  offerLocal(null);
}

function opened(set) {
  info = set;
  index = new FrameIndex(set);
  stage.open(set);
  timeline.open(index);
  const { width, height, fps, codec, bit_depth: depth, chroma } = set;
  const rate = `${Number(fps.toFixed(3))} fps`;
  const facts = [`${width} × ${height}`, rate, clock(set.duration_ms / 1000, 0), `${depth} bit ${chroma}`];
  $("facts").textContent = facts.join(" · ");
  $("facts").title = codec;
  $("count").textContent = `of ${number(index.last)}`;
  $("frame").style.width = `${Math.max(4, String(index.last).length) + 1.6}ch`;
  if (index.count === 0) {
    look("broken", { icon: "broken", title: "No pictures", text: "This video shows no frame." });
    return;
  }
  enable(true);
  offerLocal(set);
  go(wanted.frame);
}

const BROKEN = {
  not_found: "There is no such video",
  not_a_video: "This cannot be shown",
  storage_failed: "The storage did not answer",
  video_changed: "The video was replaced while it was opened",
  unauthorized: "The server asks for another token",
};

function refused({ code, message }) {
  if (code === "unauthorized") key.refused();
  const title = BROKEN[code] ?? "The video cannot be opened";
  const again = ["storage_failed", "video_changed", "unauthorized"].includes(code);
  const action = again ? { label: "Try again", run: reopen } : null;
  look("broken", { icon: "broken", title, text: message, action });
  say(`${title}. ${message}`);
}

/** Sets the same video again, and goes on where it was. */
function reopen() {
  const { video, frame } = wanted;
  wanted = { video: null, frame: 0 };
  choose({ video, frame });
}

let listed = null;
function welcome() {
  if (listed === null) look("loading", { title: "Loading …" });
  else if (listed.failed) {
    const action = { label: "Try again", run: () => shelf.open(shelf.folder) };
    look("broken", { icon: "broken", title: "The bucket cannot be listed", text: listed.failed, action });
  } else if (listed.empty && shelf.folder === "") {
    look("empty", {
      icon: "folder",
      title: "The bucket is empty",
      text: "Put H.265 videos into it: MP4, MOV, or raw .h265 streams.",
      action: { label: "Look again", run: () => shelf.open("") },
    });
  } else look("welcome", { title: "Choose a video", text: "Any frame of it, exact." });
}

shelf.addEventListener("listed", ({ detail }) => {
  listed = detail;
  if (wanted.video === null) welcome();
});
shelf.addEventListener("failed", ({ detail }) => {
  listed = { failed: detail.message };
  if (wanted.video === null) welcome();
});

// ── Going to a frame ─────────────────────────────────────────────────────────────────────────

let addressing = 0;
/** The address follows, but not each move: browsers count. */
function remember() {
  clearTimeout(addressing);
  addressing = setTimeout(() => {
    if (wanted.video !== null) history.replaceState(null, "", write(wanted));
  }, 250);
}

let late = 0;
function go(frame, asked = performance.now()) {
  if (!index || index.count === 0) return;
  if (player.playing) pause();
  const to = index.clamp(frame);
  wanted.frame = to;
  readout(to);
  projector.point(to, asked);
  $("stage").classList.toggle("late", false);
  clearTimeout(late);
  late = setTimeout(() => $("stage").classList.toggle("late", !projector.settled), 400);
}

function step(by) {
  go(wanted.frame + by);
}

function readout(frame) {
  timeline.frame = frame;
  if (document.activeElement !== $("frame") || !$("frame").dataset.typing) $("frame").value = frame;
  const time = clock(index.time(frame));
  $("time").textContent = time;
  $("time").title = index.isExact(frame)
    ? `${index.pts[frame] - index.pts[0]} of ${index.timescale} ticks a second`
    : "by the mean rate; the exact time is on its way";
  say(`Frame ${frame}, ${time}`);
  remember();
}

projector.addEventListener("picture", ({ detail }) => {
  const { frame, exact, asked, drawn, width, height, by } = detail;
  const canvas = $("picture");
  canvas.dataset.frame = frame;
  canvas.dataset.exact = exact;
  canvas.setAttribute("aria-label", `Frame ${frame} of ${base(wanted.video)}${exact ? "" : ", a preview"}`);
  $("badge").hidden = exact;
  if (!exact) $("badge").textContent = `Preview: frame ${number(frame)}`;
  if ($("stage").dataset.state !== "shown") look("shown");
  if (projector.settled) $("stage").classList.remove("late");
  if (exact) {
    if (asked !== undefined) meter.felt(drawn - asked);
    meter.picture(width, height, by);
    loadBeside();
  }
  document.dispatchEvent(new CustomEvent("viewer:picture", { detail }));
});

projector.addEventListener("fail", ({ detail: { frame, error, message } }) => {
  $("stage").classList.remove("late");
  // The connection's own event tells that.
  if (error === "lost") return;
  if (error === "unauthorized") {
    key.refused();
    return;
  }
  if (error === "video_changed" || error === "no_video") {
    toast("The video was replaced; this is the new one.");
    reopen();
    return;
  }
  if (error === "undecoded" && $("local").checked) {
    $("local").checked = false;
    projector.use(null);
    toast("This browser could not decode it; the server does again.");
    go(frame);
    return;
  }
  $("badge").hidden = true;
  loadBeside();
  // Damage stays; a storage may come back.
  const again = ["storage_failed", "gop_too_large", "encode_failed"].includes(error);
  const action = again ? { label: "Try again", run: () => go(frame) } : null;
  look("broken-frame", { icon: "broken", title: `Frame ${frame} cannot be shown`, text: message, action });
  say(`Frame ${frame} cannot be shown. ${message}`);
});

stage.addEventListener("zoom", () => {
  clearTimeout(refining);
  refining = setTimeout(() => index && !player.playing && projector.refine(), 150);
});
let refining = 0;

// ── What comes after the first picture ───────────────────────────────────────────────────────

let besideOf = null;
function loadBeside() {
  if (besideOf === index || !index) return;
  besideOf = index;
  link.getIndex(0, PIECE);
  loadFilm();
}

link.addEventListener("index", ({ detail }) => {
  if (!index || detail.frame_count !== index.count) return;
  const before = index.known;
  index.add(detail);
  if (index.known > before && !index.whole) link.getIndex(index.known, PIECE);
  timeline.redraw();
  readout(wanted.frame);
});

let filmWidth = 0;
async function loadFilm() {
  const [mine, of, signal] = [choice, wanted.video, beside.signal];
  filmWidth = timeline.width;
  try {
    const film = await Film.load(of, info, timeline.width, timeline.stripHeight, signal);
    if (mine === choice) timeline.film = film;
  } catch {
    // A timeline without pictures is one still.
  }
}

new ResizeObserver(() => {
  // Much wider than what was made for: more pictures.
  if (index && besideOf === index && timeline.width > filmWidth * 1.5) loadFilm();
}).observe($("timeline"));

// ── The connection ───────────────────────────────────────────────────────────────────────────

link.addEventListener("open", () => {
  $("lost").hidden = true;
  $("stage").classList.remove("lost-line");
  if (wanted.video !== null) resume();
  if (listed?.failed) shelf.open(shelf.folder);
});

/** After a connection has come (again): the same video, the same frame. */
async function resume() {
  const [mine, before] = [choice, info];
  if (before === null) {
    reopen();
    return;
  }
  try {
    const set = await link.setVideo(wanted.video);
    if (mine !== choice) return;
    const same = ["width", "height", "frame_count", "duration_ms", "codec"].every((k) => set[k] === before[k]);
    if (!same) {
      toast("The video was replaced; this is the new one.");
      reopen();
      return;
    }
    if (!index.whole && besideOf === index) link.getIndex(index.known, PIECE);
    if (!projector.settled || projector.shown !== wanted.frame || $("stage").dataset.state !== "shown") {
      go(wanted.frame);
    }
  } catch (error) {
    if (mine === choice && error.code !== "lost") refused(error);
  }
}

let counting = 0;
link.addEventListener("lost", async ({ detail: { again } }) => {
  // The door tells that.
  if (link.held) return;
  const until = performance.now() + again;
  $("stage").classList.add("lost-line");
  $("stage").classList.remove("late");
  $("lost").hidden = false;
  let why = "The connection is lost.";
  const tell = () => {
    const seconds = Math.ceil((until - performance.now()) / 1000);
    $("lost-text").textContent = seconds > 1 ? `${why} Next attempt in ${seconds} s.` : `${why} Connecting …`;
    clearTimeout(counting);
    if (seconds > 0 && !$("lost").hidden) counting = setTimeout(tell, 500);
  };
  tell();
  if (again < 1500) return;
  // A browser does not tell why a WebSocket was refused; that the server answers says something.
  const health = await fetch(new URL("health", document.baseURI)).catch(() => null);
  if (!health?.ok || link.open) return;
  // It may be the token: then this opens the door.
  await api.list("").catch(() => null);
  if (!link.held && !link.open) why = "The server takes no more connections now.";
});
$("retry").addEventListener("click", () => link.now());

// ── The door ─────────────────────────────────────────────────────────────────────────────────

key.addEventListener("wanted", ({ detail: { wrong } }) => {
  link.hold();
  $("lost").hidden = true;
  $("stage").classList.remove("lost-line");
  if ($("door").open) return;
  $("door-wrong").textContent = wrong ? "The server does not let this token in, or not any more." : "";
  $("token").value = "";
  $("door").showModal();
});

$("door-form").addEventListener("submit", () => {
  key.token = $("token").value.trim();
  $("token").value = "";
  link.renew();
  shelf.open(shelf.folder);
});

// ── Playing ──────────────────────────────────────────────────────────────────────────────────

function playButton(playing) {
  const button = $("play");
  button.setAttribute("aria-label", playing ? "Pause" : "Play");
  button.title = playing ? "Pause (Space)" : "Play (Space)";
  button.querySelector("use").setAttribute("href", playing ? "#i-pause" : "#i-play");
}

function play() {
  if (!index || !link.open) return;
  if (player.playing) {
    const frame = pause();
    go(frame);
    return;
  }
  player.start(index, wanted.frame);
  playButton(true);
}

function pause() {
  const frame = player.stop();
  playButton(false);
  return frame;
}

player.addEventListener("frame", ({ detail }) => {
  wanted.frame = detail;
  readout(detail);
});
player.addEventListener("end", () => playButton(false));

// ── Save and copy ────────────────────────────────────────────────────────────────────────────

async function save(extension) {
  if (!index) return;
  const { video, frame } = { ...wanted };
  toast(`Saving frame ${frame} …`);
  try {
    const image = await api.frame(video, frame, extension, extension === "png" ? undefined : 95);
    const url = URL.createObjectURL(image);
    const name = base(video).replace(/\.[^.]+$/, "");
    const to = Object.assign(document.createElement("a"), { href: url, download: `${name}-${frame}.${extension}` });
    to.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    toast(`Frame ${frame} saved as ${extension === "png" ? "PNG" : "JPEG"}`);
  } catch (error) {
    toast(`Frame ${frame} could not be saved: ${error.message}`);
  }
}

async function copy() {
  if (!index) return;
  const url = new URL(document.baseURI);
  url.hash = write(wanted);
  history.replaceState(null, "", url);
  try {
    await navigator.clipboard.writeText(url.href);
    toast(`Link to frame ${wanted.frame} copied`);
  } catch {
    // No clipboard without a secure address: the address bar has the link, too.
    toast("The link is in the address bar");
  }
}

// ── Decoding here ────────────────────────────────────────────────────────────────────────────

async function offerLocal(set) {
  const [box, label, mine] = [$("local"), $("local-label"), choice];
  box.checked = false;
  box.disabled = true;
  const say = (why) => {
    label.title = why;
    $("local-why").textContent = why;
  };
  if (!set) {
    say("Choose a video first.");
    return;
  }
  say("Looking whether this browser decodes H.265 …");
  const { ok, why } = await support(set);
  if (mine !== choice) return;
  box.disabled = !ok;
  say(why);
}

$("local").addEventListener("change", ({ target }) => {
  projector.use(target.checked ? new Local(wanted.video) : null);
  if (index) go(wanted.frame);
});

// ── Hands ────────────────────────────────────────────────────────────────────────────────────

timeline.addEventListener("point", ({ detail: { frame, asked } }) => {
  if (frame !== wanted.frame || player.playing) go(frame, asked);
});

const BUTTONS = {
  first: () => go(0),
  "back-ten": () => step(-10),
  back: () => step(-1),
  play,
  next: () => step(1),
  "next-ten": () => step(10),
  last: () => index && go(index.last),
  fit: () => stage.reset(),
  save: () => save("png"),
  copy,
  help: () => $("keys").showModal(),
  theme: nextTheme,
  "shelf-toggle": () => drawer(!$("shelf").classList.contains("open")),
};
for (const [id, run] of Object.entries(BUTTONS)) $(id).addEventListener("click", run);

const KEYS = {
  ArrowLeft: (shift) => step(shift ? -10 : -1),
  ArrowRight: (shift) => step(shift ? 10 : 1),
  PageUp: () => step(Math.round(index.fps)),
  PageDown: () => step(-Math.round(index.fps)),
  Home: () => go(0),
  End: () => go(index.last),
  " ": play,
  s: () => save("png"),
  S: () => save("jpg"),
  c: copy,
  "+": () => stage.zoomBy(1.5),
  "=": () => stage.zoomBy(1.5),
  "-": () => stage.zoomBy(1 / 1.5),
  0: () => stage.reset(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open || $("door").open) return;
  if (event.key === "Escape") drawer(false);
  const { target } = event;
  if (target.closest("input:not([type=checkbox]), textarea, select")) return;
  if (event.key === "?") {
    $("keys").showModal();
    event.preventDefault();
    return;
  }
  // A button that has the focus is pressed by the space bar, as everywhere.
  if (event.key === " " && target.closest("button, a, input")) return;
  const slides = target.closest("[role=slider]");
  // On a slider, up and down are steps, too.
  const key = slides ? ({ ArrowUp: "ArrowRight", ArrowDown: "ArrowLeft" }[event.key] ?? event.key) : event.key;
  const run = Object.hasOwn(KEYS, key) ? KEYS[key] : KEYS[key.toLowerCase()];
  if (!run || !index) return;
  event.preventDefault();
  run(event.shiftKey);
});

$("frame").addEventListener("input", ({ target }) => (target.dataset.typing = "yes"));
$("frame").addEventListener("focus", ({ target }) => target.select());
$("frame").addEventListener("blur", typed);
$("frame").addEventListener("keydown", (event) => {
  if (event.key === "Enter") typed();
  if (event.key === "Escape") {
    delete event.target.dataset.typing;
    readout(wanted.frame);
    event.target.blur();
  }
});
function typed() {
  const field = $("frame");
  if (!field.dataset.typing || !index) return;
  delete field.dataset.typing;
  const digits = field.value.replace(/[\s,.']/g, "");
  if (/^\d+$/.test(digits)) go(Number(digits));
  else readout(wanted.frame);
}

// ── The list on a phone, and colours ─────────────────────────────────────────────────────────

function drawer(open) {
  const [panel, toggle] = [$("shelf"), $("shelf-toggle")];
  if (panel.classList.contains("open") === open) return;
  panel.classList.toggle("open", open);
  toggle.setAttribute("aria-expanded", String(open));
  if (open) panel.querySelector("a, button")?.focus();
  else if (panel.contains(document.activeElement)) toggle.focus();
}
$("stage").addEventListener("pointerdown", () => drawer(false));

const THEMES = ["auto", "light", "dark"];
const THEME_WORDS = { auto: "as the system", light: "light", dark: "dark" };
function setTheme(theme) {
  const root = document.documentElement;
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  const words = `Colours: ${THEME_WORDS[theme]}`;
  $("theme").setAttribute("aria-label", words);
  $("theme").title = words;
  timeline.redraw();
  meter.redraw();
}
function stored() {
  try {
    const theme = localStorage.getItem("theme");
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto";
  }
}
function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(stored()) + 1) % THEMES.length];
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Without a memory, the page stays as the system is.
  }
  setTheme(theme);
}

// ── The start ────────────────────────────────────────────────────────────────────────────────

addEventListener("hashchange", () => {
  drawer(false);
  choose(read(location.hash));
});

setTheme(stored());
const start = read(location.hash);
const parent = start.video?.includes("/") ? start.video.slice(0, start.video.lastIndexOf("/") + 1) : "";
if (start.video === null) welcome();
link.now();
choose(start);
shelf.open(parent);
