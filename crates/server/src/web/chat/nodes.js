// Makes elements of the nodes that the server makes of a model's text. Nothing here is ever parsed: a tag is one of those
// below or it is left out, an attribute one of four, and all else is text.

import { made } from "../dom.js";
import { Long } from "./long.js";

export const TAGS = new Set(
  "p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del a table thead tbody tr th td hr br".split(" "),
);
/** The conversation's own headings are above these. */
const HEADINGS = { h1: "h3", h2: "h4", h3: "h5", h4: "h6", h5: "h6", h6: "h6" };
/** Deeper than any reader follows; browsers fail at some hundreds. */
export const DEPTH = 40;
/** What there is to know of an element: where its children are, how many nodes precede them, the text it is of. */
export const facts = new WeakMap();

/** The nodes in a node; a `pre` has its text there. */
export const inside = (node) => (Array.isArray(node?.c) ? node.c : node?.c == null ? [] : [String(node.c)]);

/** All text of a node, however deep. */
export function textOf(node) {
  let text = "";
  const rest = [node];
  while (rest.length) {
    const one = rest.pop();
    if (one && typeof one === "object") rest.push(...inside(one).toReversed());
    else text += one ?? "";
  }
  return text;
}

/** An address that may be followed, or nothing. */
function followed(href) {
  try {
    const url = new URL(href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : "";
  } catch {
    return "";
  }
}

export function shell(node) {
  const tag = HEADINGS[node.t] ?? node.t;
  if (tag === "pre") return code(node);
  const href = tag === "a" ? followed(node.href) : "";
  const element = made(tag === "a" && !href ? "span" : tag);
  if (href) {
    element.href = href;
    element.target = "_blank";
    element.rel = "noopener noreferrer nofollow";
    element.referrerPolicy = "no-referrer";
  }
  if (/^(p|h\d|li|td|th|blockquote)$/.test(tag)) element.dir = "auto";
  if (tag === "ol" && Number.isSafeInteger(node.start)) element.start = node.start;
  if (/^t[hd]$/.test(tag) && ["left", "center", "right"].includes(node.align)) element.dataset.align = node.align;
  if (tag === "table") return inBox(element);
  if (tag === "li" && typeof node.task === "boolean") {
    const box = made("input");
    box.type = "checkbox";
    box.checked = node.task;
    box.disabled = true;
    box.setAttribute("aria-label", node.task ? "done" : "to do");
    element.append(box);
    element.className = "task";
    facts.set(element, { holder: element, before: 1 });
  }
  return element;
}

function inBox(table) {
  const box = made("div", "", "scroll");
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Table");
  box.append(table);
  facts.set(box, { holder: table, before: 0 });
  return box;
}

function code(node) {
  const box = made("div", "", "code");
  const lang = typeof node.lang === "string" ? node.lang.slice(0, 40) : "";
  const bar = made("div", "", "code-bar");
  const copy = made("button", "Copy");
  copy.type = "button";
  copy.dataset.copy = "";
  copy.setAttribute("aria-label", `Copy the code${lang ? ` (${lang})` : ""}`);
  bar.append(made("span", lang), copy);
  const pre = made("pre");
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", lang ? `Code, ${lang}` : "Code");
  const holder = made("code");
  pre.append(holder);
  box.append(bar, pre);
  const long = new Long(holder, box);
  long.append(textOf(node));
  facts.set(box, { long });
  return box;
}

/** The text that a button for copying stands over. */
export const codeOf = (button) => facts.get(button.closest(".code"))?.long.whole ?? "";

export const holderOf = (element) => facts.get(element)?.holder ?? element;
export const childOf = (element, i) => holderOf(element).childNodes[(facts.get(element)?.before ?? 0) + i];

export function same(a, b, depth = 0) {
  if (a === b) return true;
  if (depth > DEPTH || !a || !b || typeof a !== "object" || typeof b !== "object" || !alike(a, b)) return false;
  const [mine, theirs] = [inside(a), inside(b)];
  return mine.length === theirs.length && mine.every((one, i) => same(one, theirs[i], depth + 1));
}

/** Whether two nodes make the same element, whatever is in it. */
export const alike = (a, b) => ["t", "href", "start", "task", "align", "lang"].every((field) => a[field] === b[field]);

