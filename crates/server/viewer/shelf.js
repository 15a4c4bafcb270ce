// The bucket as folders: one level at a time, more on demand.

import { list } from "./api.js";
import { base, bytes, day } from "./words.js";
import { write } from "./place.js";

/** Events: `listed` (detail `{folder, empty}`), `failed` (detail: the error). */
export class Shelf extends EventTarget {
  #crumbs;
  #entries;
  #note;
  #more;
  #folder = "";
  #cursor = null;
  #current = null;
  /** @type {AbortController|null} */
  #loading = null;

  constructor({ crumbs, entries, note, more }) {
    super();
    [this.#crumbs, this.#entries, this.#note, this.#more] = [crumbs, entries, note, more];
    more.addEventListener("click", () => this.#load(true));
    entries.addEventListener("click", ({ target }) => {
      const folder = target.closest("button[data-folder]");
      if (folder) this.open(folder.dataset.folder, true);
    });
    crumbs.addEventListener("click", ({ target }) => {
      const folder = target.closest("button[data-folder]");
      if (folder) this.open(folder.dataset.folder, true);
    });
    entries.addEventListener("keydown", (event) => this.#walk(event));
  }

  get folder() {
    return this.#folder;
  }

  /** Shows a folder: `""`, or a prefix that ends with a slash. */
  async open(folder, focus = false) {
    this.#folder = folder;
    this.#cursor = null;
    this.#drawCrumbs();
    await this.#load(false);
    if (focus) this.#entries.querySelector("a, button")?.focus();
  }

  /** The video that is shown. */
  set current(video) {
    this.#current = video;
    this.#mark();
  }

  async #load(further) {
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    this.#entries.setAttribute("aria-busy", "true");
    this.#more.hidden = true;
    if (!further) {
      this.#entries.replaceChildren();
      this.#say("Loading …");
    }
    try {
      let page = await list(this.#folder, this.#cursor, loading.signal);
      // A page of objects that are no videos is empty, and not the last.
      while (page.cursor !== null && page.folders.length + page.videos.length === 0) {
        page = await list(this.#folder, page.cursor, loading.signal);
      }
      this.#cursor = page.cursor;
      const rows = [
        ...page.folders.map((folder) => this.#folderRow(folder)),
        ...page.videos.map((video) => this.#videoRow(video)),
      ];
      const first = rows[0];
      this.#entries.append(...rows);
      this.#more.hidden = page.cursor === null;
      const empty = this.#entries.childElementCount === 0 && page.cursor === null;
      this.#say(empty ? (this.#folder ? "No videos in this folder" : "No videos yet") : "");
      this.#mark();
      if (further) first?.querySelector("a, button")?.focus();
      const detail = { folder: this.#folder, empty };
      this.dispatchEvent(new CustomEvent("listed", { detail }));
    } catch (error) {
      if (loading.signal.aborted) return;
      this.#say(`The list cannot be had: ${error.message}`);
      this.#more.hidden = false;
      this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    } finally {
      if (this.#loading === loading) this.#entries.setAttribute("aria-busy", "false");
    }
    this.#more.textContent = this.#entries.childElementCount === 0 ? "Try again" : "Show more";
  }

  #say(text) {
    this.#note.textContent = text;
  }

  #folderRow(folder) {
    const button = element("button", { type: "button", className: "entry" });
    button.dataset.folder = folder;
    button.append(icon("folder"), element("span", { className: "name", textContent: base(folder) }));
    return item(button);
  }

  #videoRow({ path, size, modified }) {
    const link = element("a", { className: "entry", href: write({ video: path, frame: 0 }) });
    link.dataset.video = path;
    link.title = path;
    const facts = [bytes(size), modified ? day(modified) : ""].filter(Boolean).join(" · ");
    link.append(
      icon("video"),
      element("span", { className: "name", textContent: base(path) }),
      element("span", { className: "entry-facts", textContent: facts }),
    );
    return item(link);
  }

  #drawCrumbs() {
    const parts = this.#folder.split("/").filter(Boolean);
    const crumbs = [["All videos", ""]];
    parts.forEach((part, n) => crumbs.push([part, `${parts.slice(0, n + 1).join("/")}/`]));
    this.#crumbs.replaceChildren(
      ...crumbs.map(([name, folder], n) => {
        const button = element("button", { type: "button", textContent: name });
        button.dataset.folder = folder;
        if (n === crumbs.length - 1) button.setAttribute("aria-current", "location");
        return item(button);
      }),
    );
  }

  #mark() {
    for (const link of this.#entries.querySelectorAll("a")) {
      if (link.dataset.video === this.#current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  /** Up and down go through the entries. */
  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = [...this.#entries.querySelectorAll(".entry")];
    all[all.indexOf(document.activeElement) + step]?.focus();
    event.preventDefault();
  }
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

function item(content) {
  const row = document.createElement("li");
  row.append(content);
  return row;
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}
