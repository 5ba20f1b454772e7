// On narrow windows, the list and the parameters lie over the conversation and are drawn in and out.

import { at, mark } from "../dom.js";

const isNarrow = matchMedia("(max-width: 60rem)");
const button = at("drawer");

function set(isOpen) {
  document.body.dataset.drawer = isOpen ? "open" : "shut";
  mark(button, "aria-expanded", String(isOpen));
}

export function openDrawer() {
  if (isNarrow.matches) set(true);
}

/** Answers whether it was open. */
export function closeDrawer() {
  const wasOpen = isNarrow.matches && document.body.dataset.drawer === "open";
  if (isNarrow.matches) set(false);
  return wasOpen;
}

set(!isNarrow.matches);
isNarrow.addEventListener("change", () => set(!isNarrow.matches));
button.addEventListener("click", () => {
  const isOpen = document.body.dataset.drawer !== "open";
  set(isOpen);
  if (isOpen) at("search").focus();
});
at("scrim").addEventListener("click", () => {
  closeDrawer();
  button.focus();
});
