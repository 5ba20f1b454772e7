// A message as it is shown: who, the text, what it took, and what can be done with it.

import { announce } from "../shell.js";
import { made, mark, part, say, stamp } from "../dom.js";
import { count, number, plain, span } from "../words.js";
import { codeOf } from "./nodes.js";
import { Long } from "./long.js";
import { make, makeLater } from "./frames.js";

const ENDS = { length: "ended at the limit of tokens", stopped: "stopped", error: "failed" };

const messages = new WeakMap();
export const messageOf = (node) => messages.get(node.closest("article"));

/** Makes a message's element; its text comes with the next frames, or later. */
export function makeMessage(conversation, message) {
  if (message.node) return message.node;
  const node = stamp("t-message");
  message.node = node;
  messages.set(node, message);
  mark(node, "data-role", message.role);
  const body = conversation.body(message);
  part(node, "text").replaceWith(body.root);
  // What fits into one frame is there at once: most messages.
  if (!body.work(performance.now() + 4)) (message === conversation.live?.answer ? make : makeLater)(body);
  return node;
}

/** What may be new of a message but for its text. */
export function showMessage(conversation, message) {
  const { node } = message;
  const isLive = conversation.live?.answer === message;
  const isUser = message.role === "user";
  const who = isUser ? "You" : plain(message.model ?? conversation.model ?? "Answer");
  say(part(node, "who"), who);
  mark(node, "aria-label", isUser ? "Your message" : `Answer of ${who}`);
  mark(node, "data-live", String(isLive));
  part(node, "waits").hidden = !isLive || message.isWriting;
  say(part(node, "waits-for"), message.isThinking ? "Thinking …" : "Reading …");
  reasoning(node, message);
  const error = part(node, "error");
  error.hidden = !message.error;
  say(error, message.error ? plain(message.error) : "");
  siblings(node, conversation, message);
  part(node, "acts").hidden = isLive;
  part(node, "edit").hidden = !isUser;
  part(node, "again").hidden = isUser && conversation.leaf !== message.id;
  say(part(node, "again"), isUser ? "Answer" : "Again");
  say(part(node, "took"), isUser || isLive ? "" : took(message));
}

function reasoning(node, message) {
  const box = part(node, "reasoning");
  box.hidden = !message.reasoning;
  if (!message.reasoning) return;
  say(part(node, "reasoning-is"), message.isThinking && !message.isWriting ? "Thinking …" : "Reasoning");
  if (message.thought) return;
  message.thought = new Long(part(node, "thought"), box, 50_000);
  message.thought.append(message.reasoning);
}

function siblings(node, conversation, message) {
  const all = conversation.siblings(message);
  const i = all.indexOf(message);
  part(node, "siblings").hidden = all.length < 2;
  say(part(node, "place"), `${i + 1}/${all.length}`);
  part(node, "before").disabled = i <= 0 || conversation.live !== null;
  part(node, "after").disabled = i >= all.length - 1 || conversation.live !== null;
}

/** What an answer took: `42.0 tokens/s · first token after 230 ms · 128 tokens` */
function took(message) {
  const told = [];
  if (message.tokens_per_second > 0) told.push(`${number(message.tokens_per_second)} tokens/s`);
  if (message.ttft_s > 0) told.push(`first token after ${span(message.ttft_s)}`);
  const tokens = message.usage?.completion_tokens;
  if (tokens != null) told.push(tokens === 1 ? "1 token" : `${count(tokens)} tokens`);
  if (ENDS[message.finish]) told.push(ENDS[message.finish]);
  return told.join(" · ");
}

/** Puts a text where other programs find it, and tells so on the button. */
export async function copy(button, text) {
  const name = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    say(button, "Copied");
    announce("Copied");
  } catch {
    // Only pages of this machine or by TLS may use the clipboard.
    say(button, copyByHand(text) ? "Copied" : "Not copied");
  }
  setTimeout(() => say(button, name), 1500);
}

function copyByHand(text) {
  const field = made("textarea", text, "unseen");
  document.body.append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  return isDone;
}

/** Puts a field in the place of a question; `send` is given the new text. */
export function edit(message, send) {
  const { node } = message;
  if (part(node, "editor")) return;
  const form = stamp("t-editor");
  const field = form.querySelector("textarea");
  field.value = message.content;
  const close = () => {
    form.remove();
    node.classList.remove("edited");
    message.body.root.hidden = false;
    part(node, "acts").hidden = false;
    part(node, "edit").focus();
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    close();
    if (text) send(text);
  });
  part(form, "cancel").addEventListener("click", close);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === field) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  node.classList.add("edited");
  message.body.root.hidden = true;
  part(node, "acts").hidden = true;
  message.body.root.after(form);
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
}

export { codeOf };
