// The server's routes for conversations, in the words of this page.

import { refused } from "../shell.js";
import { ask, events } from "../stream.js";

const CHATS = "/api/troika/chats";
const one = (id) => `${CHATS}/${encodeURIComponent(id)}`;

/** Asks, and sends a body as JSON; without a key that is good, the page asks for one. */
export async function call(path, method = "GET", body = undefined, options = {}) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    return await ask(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options });
  } catch (error) {
    if (error.status === 401) refused(error);
    throw error;
  }
}

const json = async (...args) => (await call(...args)).json();

export function chats({ query = "", before = null, signal } = {}) {
  const asked = new URLSearchParams({ limit: "50" });
  if (query) asked.set("query", query);
  if (before != null) asked.set("before", before);
  return json(`${CHATS}?${asked}`, "GET", undefined, { signal });
}

export const chat = (id) => json(one(id));
export const newChat = (fields) => json(CHATS, "POST", fields);
export const change = (id, fields) => json(one(id), "PATCH", fields);
/** Also while the page is left. */
export const remove = (id) => call(one(id), "DELETE", undefined, { keepalive: true });
export const removeAll = () => call(CHATS, "DELETE", { all: true });
export const picker = () => json("/api/troika/picker");
export const state = () => json("/api/troika/state");

export async function* answer(id, asked, signal) {
  const response = await call(`${one(id)}/answer`, "POST", asked, { signal });
  for await (const event of events(response)) if (event) yield event;
}

/** Gives a file to the reader, of one conversation or of all. */
export async function save(id, format, title) {
  const path = id === null ? `${CHATS}/export` : `${one(id)}/export?format=${format}`;
  const blob = await (await call(path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  const ending = id === null ? "jsonl" : { markdown: "md", json: "json" }[format];
  link.download = `${title.replace(/[^\p{L}\p{N} ._-]+/gu, " ").trim().slice(0, 80) || "chat"}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Models that are on their way.
const PULLS = "/api/troika/pulls";
export const look = (from, signal) => json(`${PULLS}/look?${new URLSearchParams({ from })}`, "GET", undefined, { signal });
export const pull = (asked) => json(PULLS, "POST", asked);
export const pulls = () => json(PULLS);
export const stopPull = (id) => call(`${PULLS}/${encodeURIComponent(id)}`, "DELETE");

export async function* pulled(id, signal) {
  const response = await call(`${PULLS}/${encodeURIComponent(id)}/events`, "GET", undefined, { signal });
  for await (const event of events(response)) if (event) yield event.data;
}
