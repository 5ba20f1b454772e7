// The blocks of a message on the page: made a slice at a time, and only the end is touched while more of it comes.

import { made } from "../dom.js";
import { DEPTH, TAGS, alike, childOf, facts, holderOf, inside, same, shell, textOf } from "./nodes.js";

/** So many blocks are laid out together, and only where they are seen. */
const GROUP = 30;

/** The blocks of one message in an element. What was told last is made by `work`, as much at a time as there is time. */
export class Body {
  constructor(root) {
    this.root = root;
    this.blocks = [];
    /** The elements of the first of these. */
    this.shown = [];
    /** What is being made: children from an index on, innermost last. */
    this.stack = [];
    /** Text that is to follow what is still being made. */
    this.late = "";
  }

  /** The blocks from `from` on are these. */
  replace(from, blocks) {
    this.#settle();
    const old = this.blocks[from];
    const isMaking = this.stack.length > 0 && this.shown.length - 1 >= from;
    if (isMaking) this.stack = [];
    while (this.shown.length > from + 1 || (isMaking && this.shown.length > from)) this.#drop();
    this.blocks.length = Math.min(this.blocks.length, from);
    for (const block of blocks) this.blocks.push(block);
    if (this.shown.length <= from || isMaking) return;
    if (from >= this.blocks.length || !this.#patch(this.shown[from], old, this.blocks[from])) this.#drop();
  }

  append(text) {
    this.late += text;
  }

  /** Makes what is not there yet, until that is all (then it answers `true`) or it is that late. */
  work(until) {
    for (let steps = 0; ; steps += 1) {
      if (steps % 16 === 15 && performance.now() > until) return false;
      if (this.stack.length) this.#step();
      else if (this.shown.length < this.blocks.length) this.#next();
      else if (this.late) this.#settle();
      else return true;
    }
  }

  #next() {
    const i = this.shown.length;
    if (i % GROUP === 0) this.root.append(made("div", "", "group"));
    this.shown.push(this.#make(this.root.lastElementChild, this.blocks[i], 0));
  }

  #drop() {
    this.shown.pop().remove();
    if (this.shown.length % GROUP === 0) this.root.lastElementChild.remove();
  }

  /** Puts a node into `parent`, and what is in it onto the stack. */
  #make(parent, node, depth) {
    const isText = !node || typeof node !== "object" || !TAGS.has(node.t) || depth > DEPTH;
    const made = isText ? document.createTextNode(textOf(node)) : shell(node);
    parent.append(made);
    const nodes = isText || facts.get(made)?.long ? [] : inside(node);
    if (nodes.length) this.stack.push({ element: made, nodes, index: 0, depth: depth + 1 });
    return made;
  }

  #step() {
    const top = this.stack.at(-1);
    if (top.index >= top.nodes.length) return this.stack.pop();
    top.index += 1;
    return this.#make(holderOf(top.element), top.nodes[top.index - 1], top.depth);
  }

  /** Makes an element of one node that of another, as far as its beginning stays; `false` if it has to be made anew. */
  #patch(element, was, now, depth = 0) {
    const fact = facts.get(element);
    if (!was || !now || typeof was !== "object" || typeof now !== "object" || !alike(was, now)) return false;
    if (!TAGS.has(now.t) || depth >= DEPTH) return false;
    if (fact?.long) {
      const [old, text] = [fact.long.whole, textOf(now)];
      if (text.startsWith(old)) fact.long.append(text.slice(old.length));
      return text.startsWith(old);
    }
    const [old, nodes] = [inside(was), inside(now)];
    let i = 0;
    while (i < old.length && i < nodes.length && same(old[i], nodes[i])) i += 1;
    const child = childOf(element, i);
    const makes = this.stack.length;
    this.stack.push({ element, nodes, index: i, depth: depth + 1 });
    if (child && i < nodes.length && this.#patch(child, old[i], nodes[i], depth + 1)) {
      this.stack[makes].index = i + 1;
      i += 1;
    }
    while (childOf(element, i)) childOf(element, i).remove();
    return true;
  }

  /** Puts the late text where it belongs: into the blocks, and into what is shown of them. */
  #settle() {
    if (!this.late) return;
    const text = this.late;
    this.late = "";
    const last = this.blocks.length - 1;
    const isShown = this.shown.length > last;
    if (last < 0) {
      this.blocks.push({ t: "p", c: [text] });
    } else if (isShown && this.stack.length) {
      this.stack = [];
      this.#drop();
      this.#extend(null, last, text);
    } else {
      this.#extend(isShown ? this.shown[last] : null, last, text);
    }
  }

  #extend(element, last, text) {
    let node = this.blocks[last];
    if (typeof node === "string") this.blocks[last] += text;
    while (node && typeof node === "object") {
      if (facts.get(element)?.long) {
        facts.get(element).long.append(text);
        element = null;
      } else if (element?.nodeType === Node.TEXT_NODE) {
        // The elements in it are not made: it was too deep, or is of no known sort.
        element.appendData(text);
        element = null;
      }
      if (!Array.isArray(node.c)) {
        node.c = (node.c ?? "") + text;
        break;
      }
      const i = node.c.length - 1;
      const inner = node.c[i];
      element = element && i >= 0 ? childOf(element, i) : element;
      if (inner && typeof inner === "object" && !["br", "hr"].includes(inner.t)) {
        node = inner;
        continue;
      }
      if (typeof inner === "string") node.c[i] += text;
      else node.c.push(text);
      break;
    }
    if (element?.nodeType === Node.TEXT_NODE) element.appendData(text);
    else if (element) (element.tagName === "BR" ? element.parentNode : holderOf(element)).append(text);
  }
}
