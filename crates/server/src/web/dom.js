// The few things that the page does with its document. What comes from the server goes in as text, never as markup: the
// page's own policy (`require-trusted-types-for`) has the browser refuse anything else.

/** The element with this id. */
export const at = (id) => document.getElementById(id);

/** A copy of a template's one element. */
export function stamp(template) {
  return at(template).content.firstElementChild.cloneNode(true);
}

/** The part of an element that is called so in its template. */
export const part = (element, name) => element.querySelector(`[data-f="${name}"]`);

/** Sets a text, and leaves the document alone if it is that already. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets an attribute, and leaves the document alone if it is that already. */
export function mark(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** A new element with a text. */
export function made(tag, text = "", className = "") {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  if (className) node.className = className;
  return node;
}

/**
 * Makes a parent's children follow a list. A child whose key stays is kept, with focus and selection, and only moved
 * where the order changed.
 */
export function follow(parent, items, keyOf, make, update) {
  const have = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = have.get(key);
    have.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
    update(child, item);
  }
  for (const child of have.values()) child.remove();
}

/** Draws a bar's length, a share from 0 to 1. */
export function fill(bar, share) {
  bar.style.width = `${(100 * Math.min(1, Math.max(0, share || 0))).toFixed(1)}%`;
}
