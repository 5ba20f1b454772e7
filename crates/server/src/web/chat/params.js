// How the model is to answer, in this conversation.

import { at, mark, say } from "../dom.js";
import * as api from "./api.js";
import { conversation, onTalk, trouble } from "./talk.js";

const panel = at("params");
const fields = [...panel.querySelectorAll("[name]")];

/** What a field says; nothing where it is empty: then the model's own value holds. */
function read(field) {
  const text = field.value.trim();
  if (text === "") return undefined;
  if (field.name === "think") return text === "true";
  if (field.name === "system") return field.value;
  return field.validity.valid ? Number(text) : undefined;
}

function change() {
  const it = conversation();
  const set = fields.map((field) => [field.name, read(field)]).filter(([, value]) => value !== undefined);
  it.params = Object.fromEntries(set);
  tell();
  if (it.id !== null) api.change(it.id, { params: it.params }).catch((error) => trouble(error.message));
}

function tell() {
  const changed = Object.keys(conversation().params ?? {}).length;
  say(at("tune-count"), changed ? ` (${changed})` : "");
}

function show() {
  for (const field of fields) field.value = String(conversation().params?.[field.name] ?? "");
  tell();
}

export function togglePanel(isOpen = panel.hidden) {
  const wasOpen = !panel.hidden;
  panel.hidden = !isOpen;
  mark(at("tune"), "aria-expanded", String(isOpen));
  if (isOpen && !wasOpen) fields[0].focus();
  return wasOpen;
}

at("tune").addEventListener("click", () => togglePanel());
at("params-close").addEventListener("click", () => {
  togglePanel(false);
  at("tune").focus();
});
at("params-reset").addEventListener("click", () => {
  for (const field of fields) field.value = "";
  change();
});
panel.addEventListener("change", change);
panel.addEventListener("submit", (event) => event.preventDefault());
onTalk((what) => what === "open" && show());
