// What both views have in common: whether the server answers, what is said aloud, and the key.

import { at, mark, say } from "./dom.js";
import { key, keep } from "./stream.js";
import { plain } from "./words.js";

/** What was said last about what the news are about. */
const told = new Map();

/** Tells those who listen to the page, once, and only of what changed since the page was opened. */
export function news(about, text) {
  const before = told.get(about);
  told.set(about, text);
  if (before !== undefined && before !== text) announce(text);
}

/** Tells those who listen to the page, also what was said before. */
export function announce(text) {
  say(at("news"), "");
  requestAnimationFrame(() => say(at("news"), plain(text)));
}

/** Tells how it is with the server: `connecting`, `live`, `lost` or `key`. */
export function link(state, text) {
  mark(at("link"), "data-state", state);
  say(at("link"), text);
  news("link", text);
}

export function notice(text) {
  at("notice").hidden = !text;
  say(at("notice"), text);
}

/** The server answered: nothing stands before the views. */
export function answered() {
  link("live", "Live");
  notice("");
  mark(document.body, "data-link", "live");
  if (!at("key").hidden) at("key").hidden = true;
  if (at("main").hidden) at("main").hidden = false;
}

/** The server did not answer, and is asked again in so many milliseconds. */
export function gone(error, wait) {
  mark(document.body, "data-link", "lost");
  link("lost", "Disconnected");
  const seen = at("main").hidden ? "" : " What you see is how it was.";
  const what = error.status ? plain(error.message) : "The server does not answer.";
  notice(`${what}${seen} Trying again ${wait < 1000 ? "at once" : `in ${Math.round(wait / 1000)} s`}.`);
}

/** Asks for a key, or for another one. */
export function refused(error) {
  link("key", "A key is needed");
  notice("");
  at("main").hidden = true;
  if (at("key").hidden || key()) say(at("key-wrong"), key() ? plain(error.message) : "");
  keep("");
  if (!at("key").hidden) return;
  at("key").hidden = false;
  at("key-input").focus();
}
