// A line at the foot of the page about what was just done, with a way back.

import { at, made } from "../dom.js";
import { announce } from "../shell.js";

const SHOWN_MS = 7000;

/** What is to be done when there is no way back any more. */
let pending = null;
let timer = 0;

export function settle() {
  clearTimeout(timer);
  const done = pending;
  pending = null;
  at("toast").replaceChildren();
  done?.();
}

/** Tells what was done; with `undo` it is only `done` when nobody has undone it for a while. */
export function toast(text, undo = null, done = null) {
  settle();
  pending = done;
  const line = made("div", "", "toast");
  line.append(made("span", text));
  if (undo) {
    const back = made("button", "Undo");
    back.type = "button";
    back.addEventListener("click", () => {
      pending = null;
      settle();
      undo();
    });
    line.append(back);
  }
  at("toast").replaceChildren(line);
  announce(text);
  timer = setTimeout(settle, SHOWN_MS);
}

// Who leaves does not come back to undo.
addEventListener("pagehide", settle);
