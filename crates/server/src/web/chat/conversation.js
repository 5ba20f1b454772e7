// One conversation: a tree of messages, of which one branch is shown, and the answer that is being written.

import * as api from "./api.js";
import { Body } from "./blocks.js";
import { make } from "./frames.js";

/** What stands for a message that the server has not told its number yet. */
let temporary = 0;

export class Conversation {
  constructor(fields = {}) {
    Object.assign(this, { id: null, title: "", model: null, params: {}, leaf: null }, fields);
    this.messages = new Map();
    for (const message of fields.messages ?? []) this.messages.set(message.id, message);
    /** The answer that is being written: its question, itself, and how it is stopped. */
    this.live = null;
    /** Is called when something else than the text of a message is new. */
    this.changed = () => {};
  }

  static async load(id) {
    return new Conversation(await api.chat(id));
  }

  /** The messages from the first to the leaf. */
  branch() {
    const found = [];
    const seen = new Set();
    for (let at = this.messages.get(this.leaf); at && !seen.has(at); at = this.messages.get(at.parent)) {
      seen.add(at);
      found.push(at);
    }
    return found.reverse();
  }

  /** A message and the others in its place, oldest first. */
  siblings(message) {
    return [...this.messages.values()].filter((it) => it.parent === message.parent && it.role === message.role);
  }

  /** Shows the branch of a message, to its newest end. */
  turnTo(message) {
    let leaf = message;
    for (let next = leaf; next; next = [...this.messages.values()].findLast((it) => it.parent === leaf.id)) leaf = next;
    this.leaf = leaf.id;
    this.changed();
    if (this.id !== null) api.change(this.id, { leaf: this.leaf }).catch(() => {});
  }

  /**
   * Asks a question under `parent`, or has the question `parent` answered again, and follows the answer to its end. Tells
   * what went wrong as `error`, and gives the question back as `unasked` where the server did not take it.
   */
  async answer({ parent, content }) {
    const before = this.leaf;
    const abort = new AbortController();
    const question = content === undefined ? null : this.#add("user", parent, content);
    const answer = this.#add("assistant", question?.id ?? parent);
    this.live = { question, answer, abort, taken: question === null };
    this.leaf = answer.id;
    this.changed();
    let error = null;
    try {
      if (this.id === null) {
        const { id, title } = await api.newChat({ model: this.model ?? undefined, params: this.params });
        Object.assign(this, { id, title });
        this.changed("new");
      }
      const asked = { parent, content, model: this.model ?? undefined, params: this.params };
      for await (const event of api.answer(this.id, asked, abort.signal)) this.#take(event);
      answer.finish ??= "stopped";
    } catch (thrown) {
      answer.finish = abort.signal.aborted ? "stopped" : "error";
      if (!abort.signal.aborted) error = thrown;
    }
    const unasked = this.live.taken ? undefined : content;
    this.#end(error, before);
    return { error, unasked };
  }

  stop() {
    this.live?.abort.abort();
  }

  /** Asks for what the server kept, for a message of which only the look is known. */
  async complete(message) {
    if (message.content || message.role === "user") return message.content;
    const kept = (await api.chat(this.id)).messages.find((it) => it.id === message.id);
    message.content = kept?.content ?? "";
    return message.content;
  }

  #add(role, parent, content = "") {
    const id = `new ${++temporary}`;
    const message = { id, key: id, parent, role, content, created: Date.now(), reasoning: "" };
    if (content) message.blocks = content.split(/\n{2,}/).map((text) => ({ t: "p", c: [text] }));
    this.messages.set(id, message);
    return message;
  }

  /** A message is that of the server, which may number it otherwise. */
  #become(message, fields) {
    const old = message.id;
    const { blocks, ...others } = fields;
    Object.assign(message, others);
    if (blocks) {
      this.body(message).replace(0, blocks);
      make(message.body);
    }
    this.messages.delete(old);
    this.messages.set(message.id, message);
    for (const each of this.messages.values()) if (each.parent === old) each.parent = message.id;
    if (this.leaf === old) this.leaf = message.id;
  }

  /** The blocks of a message as they are shown. */
  body(message) {
    if (!message.body) {
      const root = document.createElement("div");
      root.className = "text";
      message.body = new Body(root);
      message.body.replace(0, message.blocks ?? []);
      delete message.blocks;
    }
    return message.body;
  }

  #take({ name, data }) {
    const { question, answer } = this.live;
    const body = this.body(answer);
    switch (name) {
      case "message":
        if (data.role === "assistant") this.#become(answer, data);
        else if (question) this.#become(question, data);
        this.live.taken = true;
        return this.changed("message");
      case "reasoning":
        answer.reasoning = (answer.reasoning ?? "") + data.text;
        answer.thought?.append(data.text);
        if (!answer.isThinking) this.changed();
        answer.isThinking = true;
        return undefined;
      case "blocks":
        body.replace(data.from, data.blocks);
        return this.#wrote(body);
      case "text":
        body.append(data.text);
        return this.#wrote(body);
      case "done":
        this.#become(answer, data);
        return undefined;
      case "error":
        answer.finish = "error";
        answer.error = data.message;
        return undefined;
      default:
        return undefined;
    }
  }

  #wrote(body) {
    make(body);
    if (this.live.answer.isWriting) return;
    this.live.answer.isWriting = true;
    this.changed();
  }

  /** Nothing is written any more. What the server never numbered is taken back. */
  #end(error, before) {
    const { question, answer, taken } = this.live;
    this.live = null;
    answer.isWriting = answer.isThinking = false;
    if (error) answer.error ??= error.message;
    if (answer.id === answer.key) {
      this.messages.delete(answer.id);
      this.leaf = taken && question ? question.id : before;
    }
    if (!taken) this.messages.delete(question.id);
    this.changed("end");
  }
}
