// The conversations by day: looked for, named, exported and deleted.

import { at, follow, made, mark, part, say, stamp } from "../dom.js";
import { announce } from "../shell.js";
import { count, plain } from "../words.js";
import * as api from "./api.js";
import { day, hits, snippet, when } from "./days.js";
import { closeDrawer } from "./drawer.js";
import { openMenu } from "./menu.js";
import { conversation, fresh, onTalk, trouble } from "./talk.js";
import { settle, toast } from "./toast.js";

/** Nobody reads results between two letters. */
const PAUSE_MS = 120;

let chats = [];
let next = null;
let query = "";
let asking = null;
let timer = 0;
/** Deleted here, and not yet on the server: these are not shown meanwhile. */
const deleted = new Set();

export async function refresh(older = false) {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  try {
    const page = await api.chats({ query, before: older ? next : null, signal: mine.signal });
    chats = older ? [...chats, ...page.chats] : page.chats;
    next = page.next;
    draw();
    if (query) announce(chats.length ? `${count(chats.length)}${next ? " or more" : ""} found` : "Nothing found");
  } catch (error) {
    if (mine.signal.aborted || error.status === 401) return;
    say(at("list-says"), plain(error.message));
  }
}

function draw() {
  const shown = chats.filter((chat) => !deleted.has(chat.id));
  say(at("list-says"), shown.length ? "" : query ? "Nothing found." : "Your conversations will be here.");
  at("older").hidden = next === null;
  const groups = Map.groupBy(shown, (chat) => day(when(chat.updated)));
  follow(at("groups"), [...groups], ([name]) => name, group, (node, [name, of]) => {
    say(node.querySelector("h3"), name);
    follow(node.querySelector("ul"), of, (chat) => chat.id, () => stamp("t-chat"), row);
  });
}

function group([name]) {
  const node = made("section");
  node.append(made("h3", name), made("ul"));
  return node;
}

function row(node, chat) {
  const link = part(node, "title");
  const isOpen = chat.id === conversation().id;
  link.href = `#chat/${encodeURIComponent(chat.id)}`;
  if (isOpen) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  const name = plain(chat.title || "Untitled");
  if (link.dataset.told !== `${name}\n${query}`) {
    link.dataset.told = `${name}\n${query}`;
    link.replaceChildren(...hits(name, query));
  }
  const found = part(node, "snippet");
  found.hidden = !query || !chat.snippet;
  found.replaceChildren(...(found.hidden ? [] : snippet(chat.snippet)));
  const more = part(node, "more");
  mark(more, "aria-label", `What can be done with ${name}`);
  more.onclick = () => menu(more, node, chat);
}

function menu(button, node, chat) {
  const save = (format) => () => api.save(chat.id, format, chat.title || "chat").catch(told);
  openMenu(button, "Conversation", [
    { text: "Rename", act: () => rename(node, chat) },
    { text: "Export as Markdown", act: save("markdown") },
    { text: "Export as JSON", act: save("json") },
    { text: "Delete", grave: true, act: () => remove(chat) },
  ]);
}

const told = (error) => trouble(error.message);

function rename(node, chat) {
  const link = part(node, "title");
  const field = made("input", "", "rename");
  field.value = chat.title;
  field.setAttribute("aria-label", "New name");
  link.hidden = true;
  link.after(field);
  field.focus();
  field.select();
  let isOver = false;
  const end = async (isKept) => {
    if (isOver) return;
    isOver = true;
    const title = field.value.trim();
    const hadFocus = field === document.activeElement;
    field.remove();
    link.hidden = false;
    if (hadFocus) link.focus();
    if (!isKept || !title || title === chat.title) return;
    try {
      await api.change(chat.id, { title });
      chat.title = title;
      if (conversation().id === chat.id) {
        conversation().title = title;
        conversation().changed();
      }
      draw();
    } catch (error) {
      told(error);
    }
  };
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    end(event.key === "Enter");
  });
  field.addEventListener("blur", () => end(true));
}

/** Deletes a conversation, once it is too late to undo that. */
function remove(chat) {
  const wasOpen = conversation().id === chat.id;
  const gone = async () => {
    await api.remove(chat.id).catch(told);
    deleted.delete(chat.id);
    chats = chats.filter((it) => it !== chat);
  };
  const undo = () => {
    deleted.delete(chat.id);
    draw();
    if (wasOpen) location.hash = `#chat/${encodeURIComponent(chat.id)}`;
  };
  toast(`Deleted “${plain(chat.title || "Untitled")}”`, undo, gone);
  deleted.add(chat.id);
  if (wasOpen) fresh();
  draw();
}

function removeAll() {
  const dialog = at("sure");
  dialog.returnValue = "";
  dialog.showModal();
  dialog.onclose = async () => {
    if (dialog.returnValue !== "yes") return;
    settle();
    await api.removeAll().catch(told);
    fresh();
    await refresh();
  };
}

at("search").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    query = at("search").value.trim();
    refresh();
  }, PAUSE_MS);
});
at("search").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown") return;
  event.preventDefault();
  at("groups").querySelector("a")?.focus();
});
at("groups").addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const links = [...at("groups").querySelectorAll("a")];
  const i = links.indexOf(document.activeElement);
  if (!by || i < 0) return;
  event.preventDefault();
  (links[i + by] ?? (by < 0 ? at("search") : links[i])).focus();
});
at("groups").addEventListener("click", (event) => event.target.closest("a") && closeDrawer());
at("older").addEventListener("click", () => refresh(true));
at("all").addEventListener("click", () => {
  openMenu(at("all"), "All conversations", [
    { text: "Export all", act: () => api.save(null, "json", "conversations").catch(told) },
    { text: "Delete all …", grave: true, act: removeAll },
  ]);
});

onTalk((what, about) => {
  if (what === "open") draw();
  if (what !== "message" && what !== "answered") return;
  refresh().then(() => {
    const listed = chats.find((chat) => chat.id === about.id);
    if (!listed || about.title === listed.title) return;
    about.title = listed.title;
    about.changed();
  });
});
