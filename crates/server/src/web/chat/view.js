// The view of conversations: which one is shown, and what is asked when it is entered.

import { at } from "../dom.js";
import { plain } from "../words.js";
import { write } from "./composer.js";
import { closeDrawer } from "./drawer.js";
import { refreshPulls } from "./get.js";
import { refresh } from "./list.js";
import { refreshModels } from "./picker.js";
import "./shortcuts.js";
import { onBack, startStrip, stopStrip } from "./strip.js";
import { conversation, fresh, onTalk, open, send, trouble } from "./talk.js";

/** Asks for all that is shown beside the conversation. */
async function ask() {
  refresh();
  try {
    await refreshModels();
    await refreshPulls();
  } catch (error) {
    if (error.status && error.status !== 401) trouble(error.message);
  }
}

/** The view is shown, with the conversation of this number or with the one that was shown. */
export function enter(id) {
  startStrip();
  ask();
  const { id: before } = conversation();
  turn(id || String(before ?? ""));
  if (!id && before !== null) history.replaceState(null, "", hashOf(before));
  name();
}

const hashOf = (id) => (id === null ? "#chat" : `#chat/${encodeURIComponent(id)}`);

/** Another view is. An answer on its way goes on. */
export const leave = () => stopStrip();

export function again() {
  startStrip();
  ask();
  turn(location.hash.split("/")[1] ?? "");
}

/** Another conversation is shown; without a number a new one. */
export function turn(id) {
  if (id) open(id);
  else if (conversation().id !== null) fresh();
}

function name() {
  const { title } = conversation();
  if (document.body.dataset.view === "chat") document.title = title ? `${plain(title)} – Troika` : "Troika";
}

onTalk((what, about) => {
  name();
  if (about !== conversation() || document.body.dataset.view !== "chat") return;
  if (what !== "open" && what !== "new") return;
  const hash = hashOf(about.id);
  if (location.hash !== hash && (location.hash || about.id !== null)) history.replaceState(null, "", hash);
});
onBack(() => ask());

at("new").addEventListener("click", () => {
  closeDrawer();
  if (location.hash !== "#chat") history.pushState(null, "", "#chat");
  fresh();
  at("box").focus();
});
for (const button of document.querySelectorAll("#examples button")) {
  button.addEventListener("click", () => {
    write("");
    send(button.textContent.trim());
  });
}
