// The field for a question.

import { at } from "../dom.js";
import { conversation, editLast, onTalk, send, stop } from "./talk.js";

const box = at("box");
/** What was begun and not sent, by conversation. */
const drafts = new Map();
let of = null;

function grow() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

export function write(text) {
  box.value = text;
  grow();
  box.focus();
}

function submit() {
  const text = box.value.trim();
  if (!text || conversation().live) return;
  box.value = "";
  grow();
  send(text);
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (conversation().live) {
    stop();
    box.focus();
  } else submit();
});

box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    submit();
  } else if (event.key === "ArrowUp" && !box.value) {
    event.preventDefault();
    editLast();
  }
});

onTalk((what, about) => {
  if (what === "new" && about === conversation()) of = conversation().id;
  if (what !== "open") return;
  if (box.value) drafts.set(of, box.value);
  else drafts.delete(of);
  of = conversation().id;
  box.value = drafts.get(of) ?? "";
  grow();
});
