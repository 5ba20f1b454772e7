// The conversation that is shown, and what its reader does with it.

import { at, follow, part, say } from "../dom.js";
import { announce } from "../shell.js";
import { plain } from "../words.js";
import { Conversation } from "./conversation.js";
import { afterFrames } from "./frames.js";
import { codeOf, copy, edit, makeMessage, messageOf, showMessage } from "./message.js";
import { textOf } from "./nodes.js";
import { keepToEnd } from "./scroll.js";

/** What is told aloud of an answer; the rest is to be read. */
const SPOKEN = 400;

let current = watched(new Conversation());
/** Conversations with an answer on its way, which goes on while another one is shown. */
const running = new Map();
/** What others do when another conversation is shown (`open`), or something is new in this one. */
const heard = [];
let opened = 0;

export const onTalk = (call) => heard.push(call);
export const conversation = () => current;

afterFrames(() => keepToEnd());

function tell(what, about = current) {
  for (const call of heard) call(what, about);
}

/** What is new in a conversation is drawn while it is the one that is shown. */
function watched(one) {
  one.changed = (what) => {
    if (one === current) draw();
    tell(what ?? "changed", one);
  };
  return one;
}

function show(next) {
  current = watched(next);
  at("messages").replaceChildren();
  trouble("");
  draw();
  tell("open");
  keepToEnd(true);
}

export async function open(id) {
  opened += 1;
  const mine = opened;
  if (String(current.id) === id) return;
  if (running.has(id)) {
    show(running.get(id));
    return;
  }
  try {
    const loaded = await Conversation.load(id);
    if (mine === opened) show(loaded);
  } catch (error) {
    if (mine !== opened || error.status === 401) return;
    fresh();
    trouble(error.status === 404 ? "This conversation is not there any more." : error.message);
  }
}

export function fresh() {
  opened += 1;
  show(new Conversation({ model: current.model }));
}

export function trouble(text) {
  at("trouble").hidden = !text;
  say(at("trouble"), text ? plain(text) : "");
}

function draw() {
  const branch = current.branch();
  say(at("title"), plain(current.title || "New chat"));
  at("empty").hidden = branch.length > 0;
  const key = (message) => message.key ?? message.id;
  follow(at("messages"), branch, key, (it) => makeMessage(current, it), (_, it) => showMessage(current, it));
  at("composer").dataset.live = String(current.live !== null);
  say(at("send"), current.live ? "Stop" : "Send");
}

/** Sends a question, or answers one again, and follows the answer. */
async function ask(what) {
  const mine = current;
  if (mine.live) return;
  trouble("");
  const ending = mine.answer(what);
  announce("Sent");
  keepToEnd(true);
  if (mine.id !== null) running.set(String(mine.id), mine);
  const { error, unasked } = await ending;
  running.delete(String(mine.id));
  tell("answered", mine);
  if (mine !== current) return;
  if (error && error.status !== 401) trouble(error.message);
  if (unasked && !at("box").value) at("box").value = unasked;
  if (!error) spoken(mine);
}

function spoken(mine) {
  const answer = mine.branch().at(-1);
  if (answer?.role !== "assistant") return;
  const text = answer.body.blocks.slice(0, 8).map(textOf).join(" ");
  announce(`${answer.finish === "stopped" ? "Stopped" : "Answered"}: ${text.slice(0, SPOKEN)}`);
}

onTalk((what, about) => what === "new" && running.set(String(about.id), about));

/** Asks after the last answer: beside a question that has none. */
export function send(content) {
  const last = current.branch().at(-1);
  return ask({ parent: (last?.role === "user" ? last.parent : last?.id) ?? null, content });
}

export const stop = () => current.live && (current.stop(), true);
export const again = (message) => ask({ parent: message.role === "user" ? message.id : message.parent });

export function editLast() {
  const last = current.branch().findLast((it) => it.role === "user");
  if (last && !current.live) editOne(last);
}

function editOne(message) {
  edit(message, (content) => ask({ parent: message.parent, content }));
}

const ACTS = {
  copy: async (message, button) => copy(button, await current.complete(message)),
  edit: editOne,
  again,
  before: (message) => turn(message, -1),
  after: (message) => turn(message, 1),
};

function turn(message, by) {
  const all = current.siblings(message);
  const next = all[all.indexOf(message) + by];
  if (!next || current.live) return;
  current.turnTo(next);
  // The button that was pressed has gone with its message.
  const button = part(next.node, by < 0 ? "before" : "after");
  (button.disabled ? part(next.node, by < 0 ? "after" : "before") : button).focus();
  announce(`Version ${all.indexOf(next) + 1} of ${all.length}`);
}

at("messages").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.copy !== undefined) copy(button, codeOf(button));
  const act = ACTS[button.dataset.f];
  if (act && (act === ACTS.copy || !current.live)) act(messageOf(button), button);
});
