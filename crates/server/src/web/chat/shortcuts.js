// The keys of the conversation view; `?` shows them.

import { at } from "../dom.js";
import { closeDrawer, openDrawer } from "./drawer.js";
import { togglePanel } from "./params.js";
import { stop } from "./talk.js";

const isTyping = (node) => node.matches?.("input, textarea, select, [contenteditable]") ?? false;
const isOver = () => document.querySelector("dialog[open], .menu:popover-open") !== null;

/** What Escape ends: the innermost first. */
const leave = () => stop() || closeDrawer() || (at("params").contains(document.activeElement) && togglePanel(false));

document.addEventListener("keydown", (event) => {
  if (document.body.dataset.view !== "chat" || isOver() || event.isComposing) return;
  const withCommand = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (withCommand && !event.shiftKey && key === "k") {
    event.preventDefault();
    openDrawer();
    at("search").focus();
    at("search").select();
  } else if (withCommand && event.shiftKey && key === "o") {
    event.preventDefault();
    at("new").click();
  } else if (event.key === "Escape" && leave()) {
    event.preventDefault();
    at("box").focus();
  } else if (event.key === "?" && !isTyping(event.target)) {
    event.preventDefault();
    at("keys").showModal();
  }
});

at("show-keys").addEventListener("click", () => at("keys").showModal());
at("keys-close").addEventListener("click", () => at("keys").close());
for (const dialog of document.querySelectorAll("#keys, #get-dialog, #sure")) {
  // A click beside the dialog hits the dialog itself, one inside hits what is there.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
