// The page: two views of one server, a conversation with its models and what the machine is doing.

import * as chat from "./chat/view.js";
import { at, say } from "./dom.js";
import * as machine from "./machine/view.js";
import { link } from "./shell.js";
import { keep } from "./stream.js";

const VIEWS = { chat, machine };

let shown = "";

/** The view and what is to be shown in it: `#chat`, `#chat/ID`, `#machine`; what is none of these is the chat. */
function wanted() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  return VIEWS[name] ? [name, decodeURIComponent(rest.join("/"))] : [shown || "chat", ""];
}

function turn() {
  const [name, what] = wanted();
  if (name !== shown) {
    if (shown) VIEWS[shown].leave();
    shown = name;
    document.body.dataset.view = name;
    for (const each of Object.keys(VIEWS)) {
      at(each).hidden = each !== name;
      if (each === name) at(`to-${each}`).setAttribute("aria-current", "page");
      else at(`to-${each}`).removeAttribute("aria-current");
    }
    // A key may be asked for: then nothing but the form is to be seen.
    if (at("key").hidden) at("main").hidden = false;
    if (name === "machine") document.title = "Machine – Troika";
    VIEWS[name].enter(what);
  } else if (location.hash.startsWith(`#${name}`)) VIEWS[name].turn?.(what);
}

at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at(shown === "chat" ? "box" : "devices").focus();
});

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(at("key-input").value.trim());
  at("key-input").value = "";
  say(at("key-wrong"), "");
  link("connecting", "Connecting …");
  VIEWS[shown].again();
});

addEventListener("hashchange", turn);
turn();
