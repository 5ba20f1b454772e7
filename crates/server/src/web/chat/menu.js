// Menus: lists of buttons over the page, which close when something else is pressed.

import { made } from "../dom.js";

let opener = null;

/**
 * Opens a menu at a button. Each of `items` has a `text` and what it `act`s, and may have a `hint`, be one of several that
 * is `checked`, `disabled`, or `grave`.
 */
export function openMenu(button, name, items) {
  closeMenu();
  const menu = made("div", "", "menu");
  menu.setAttribute("role", "menu");
  menu.setAttribute("aria-label", name);
  menu.popover = "auto";
  for (const item of items) menu.append(entry(item));
  document.body.append(menu);
  menu.showPopover();
  place(menu, button);
  opener = button;
  button.setAttribute("aria-expanded", "true");
  menu.addEventListener("keydown", walk);
  menu.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    button.setAttribute("aria-expanded", "false");
    if (menu.contains(document.activeElement) || document.activeElement === document.body) button.focus();
    menu.remove();
    if (opener === button) opener = null;
  });
  (menu.querySelector("[aria-checked=true]") ?? menu.querySelector("button:not([disabled])"))?.focus();
}

export function closeMenu() {
  document.querySelector(".menu")?.hidePopover();
}

function entry({ text, hint, act, checked, disabled, grave }) {
  const button = made("button", "", grave ? "grave" : "");
  button.type = "button";
  button.setAttribute("role", checked === undefined ? "menuitem" : "menuitemradio");
  if (checked !== undefined) button.setAttribute("aria-checked", String(checked));
  button.disabled = disabled ?? false;
  button.append(made("span", text));
  if (hint) button.append(made("small", hint));
  button.addEventListener("click", () => {
    opener?.focus();
    closeMenu();
    act();
  });
  return button;
}

function place(menu, button) {
  const near = button.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const left = Math.max(8, Math.min(near.left, innerWidth - width - 8));
  const below = near.bottom + 4;
  const top = below + height > innerHeight - 8 ? Math.max(8, near.top - height - 4) : below;
  menu.style.left = `${left}px`;
  menu.style.top = `${top}px`;
}

function walk(event) {
  const all = [...event.currentTarget.querySelectorAll("button:not([disabled])")];
  const i = all.indexOf(document.activeElement);
  const to = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Tab") closeMenu();
  if (to === undefined) return;
  event.preventDefault();
  all.at(to % all.length)?.focus();
}
