// What the machine does, in one line, while the reader is in a conversation.

import { at, mark, say } from "../dom.js";
import { rates, remember } from "../machine/history.js";
import { answered, gone, refused } from "../shell.js";
import { bytes, count, number, plain } from "../words.js";
import * as api from "./api.js";

const PERIOD_MS = 2000;
const WAIT_MAX_MS = 8000;

let timer = 0;
let wait = PERIOD_MS;
let isWanted = false;
let wasLost = false;
let back = () => {};

/** Calls something when the server is there again. */
export const onBack = (call) => (back = call);

async function once() {
  clearTimeout(timer);
  if (!isWanted || document.hidden) return;
  try {
    const state = await api.state();
    wait = PERIOD_MS;
    if (!isWanted) return;
    answered();
    show(state);
    if (wasLost) back();
    wasLost = false;
  } catch (error) {
    if (!isWanted || error.status === 401) return;
    if (error.status === 403) return void refused(error);
    wasLost = true;
    gone(error, wait);
    wait = Math.min(WAIT_MAX_MS, wait * 2);
  }
  clearTimeout(timer);
  timer = setTimeout(once, wait);
}

function show(state) {
  remember(state);
  const working = new Set(state.jobs.map((job) => job.device));
  const all = state.devices;
  const named = all.filter((it) => working.has(it.id));
  const devices = named.length ? named : all.filter((it) => it.models.length).slice(0, 1);
  const speed = all.reduce((sum, it) => sum + (rates(it.id).writing || 0), 0);
  const used = state.pools.reduce((sum, pool) => sum + pool.models + pool.loading, 0);
  const memory = state.pools.reduce((sum, pool) => sum + pool.capacity, 0);
  const waiting = state.queues.reduce((sum, queue) => sum + queue.waiting, 0);
  const told = [
    ["device", (devices.length ? devices : all.slice(0, 1)).map((it) => plain(it.name)).join(", ")],
    ["speed", `${number(speed)} tokens/s`],
    ["memory", `models ${bytes(used)} of ${bytes(memory)}`],
    ["waiting", waiting ? `${count(waiting)} waiting` : "nobody waits"],
  ];
  mark(at("strip"), "data-busy", String(named.length > 0));
  for (const [name, text] of told) say(at(`strip-${name}`), text);
}

export function startStrip() {
  isWanted = true;
  wait = PERIOD_MS;
  once();
}

export function stopStrip() {
  isWanted = false;
  clearTimeout(timer);
}

document.addEventListener("visibilitychange", () => !document.hidden && once());
