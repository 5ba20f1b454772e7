// Devices as lanes, with their jobs and models; the queues that flow into them.

import { fill, follow, made, mark, part, say, stamp, at } from "../dom.js";
import { rates, spark } from "./history.js";
import { explain } from "./why.js";
import { PHASES, SOURCES, bytes, count, number, percent, plain, span, state as split, watts } from "../words.js";

const PIPS_MAX = 24;
const MARKS = { ready: "✓", probing: "…", draining: "↓", lost: "✕" };

/** The classes with how many wait in each. */
export function queues(state) {
  follow(at("queues"), state.queues, (queue) => queue.class, () => stamp("t-queue"), (row, queue) => {
    mark(row, "data-class", queue.class);
    say(part(row, "class"), queue.class);
    say(part(row, "count"), count(queue.waiting));
    const waits = queue.waiting ? `oldest waits ${span(queue.oldest_s)}` : "nobody waits";
    say(part(row, "oldest"), `${waits}, ${count(queue.running)} at work`);
    const pips = part(row, "pips");
    const want = Math.min(queue.waiting, PIPS_MAX);
    while (pips.children.length > want) pips.lastElementChild.remove();
    while (pips.children.length < want) pips.append(made("i"));
    mark(pips, "data-more", String(queue.waiting > PIPS_MAX));
  });
}

/** The lanes. */
export function lanes(state) {
  follow(at("lanes"), state.devices, (device) => device.id, () => stamp("t-lane"), (lane, device) => {
    heading(lane, device);
    gauges(lane, device);
    const jobs = state.jobs.filter((job) => job.device === device.id);
    follow(part(lane, "jobs"), jobs, (job) => job.job, newJob, (row, job) => showJob(row, job, device, state));
    const models = device.models;
    const compiling = (state.compiling ?? []).filter((it) => it.device === device.name);
    const rows = [...models, ...compiling.map((it) => ({ ...it, name: state.models[it.model] ?? `model ${it.model}` }))];
    follow(part(lane, "residents"), rows, (row) => `${row.model}${row.stage ?? ""}`, () => stamp("t-resident"), resident);
    const idle = models.length ? "No job." : "No job, and no model in memory.";
    say(part(lane, "rest"), jobs.length ? "" : idle);
  });
}

function heading(lane, device) {
  const { word, reason } = split(device.state);
  mark(lane, "data-state", word);
  say(part(lane, "name"), plain(device.name));
  say(part(lane, "kind"), device.kind === "accelerator" ? "accelerator" : device.kind.toUpperCase());
  say(part(lane, "chip"), plain(device.chip));
  say(part(lane, "state"), `${MARKS[word] ?? "•"} ${word}`);
  const why = part(lane, "reason");
  say(why, reason);
  why.hidden = !reason;
  const heat = part(lane, "heat");
  heat.hidden = device.heat === "normal";
  mark(heat, "data-heat", device.heat);
  say(heat, device.heat === "hot" ? "▲▲ hot, slows down" : "▲ warm");
}

function gauges(lane, device) {
  const beside = device.beside ? ` · ${device.beside} always-on` : "";
  say(part(lane, "busy"), `${percent(device.busy)}${beside}`);
  const drawing = part(lane, "spark");
  const { line, area } = spark(device.id, 120, 24);
  mark(drawing.querySelector(".line"), "d", line);
  mark(drawing.querySelector(".area"), "d", area);
  mark(drawing, "aria-label", `Busy over the last minute, now ${percent(device.busy)}`);
  say(part(lane, "watts"), watts(device.watts, device.watts_source));
  say(part(lane, "source"), SOURCES[device.watts_source] ?? "of unknown source");
  const { reading, writing } = rates(device.id);
  say(part(lane, "reading"), number(reading));
  say(part(lane, "writing"), number(writing));
}

/** What a click on each job's button asks about: always the newest. */
const current = new WeakMap();

function newJob() {
  const row = stamp("t-job");
  row.firstElementChild.addEventListener("click", () => explain(...current.get(row)));
  return row;
}

function showJob(row, job, device, state) {
  current.set(row, [job, state]);
  const model = plain(state.models[job.model] ?? `model ${job.model}`);
  const phase = PHASES[job.phase] ?? plain(job.phase);
  const [done, all] = job.tokens;
  mark(row, "data-class", job.class);
  mark(row, "data-phase", job.phase);
  say(part(row, "class"), job.class);
  say(part(row, "model"), model);
  say(part(row, "phase"), phase);
  fill(part(row, "bar"), all ? done / all : 0);
  say(part(row, "tokens"), all ? `${count(done)} of ${count(all)}` : count(done));
  say(part(row, "age"), span(job.age_s));
  const button = row.firstElementChild;
  mark(button, "title", plain(job.why));
  // Without what changes twice a second (that is `aria-hidden`), the name that a screen reader knows it by stays.
  say(part(row, "ask"), `, job ${job.job} on ${plain(device.name)}. Why is it here?`);
}

function resident(row, model) {
  if (model.stage) return onItsWay(row, model);
  mark(row, "data-state", model.state);
  say(part(row, "model"), plain(model.name));
  const state = model.state === "ready" ? "" : `, ${plain(model.state)}`;
  say(part(row, "size"), `${bytes(model.bytes)}${state}`);
  const ready = model.pages > 0;
  part(row, "meter").hidden = !ready;
  const used = ready ? model.pages_used / model.pages : 0;
  fill(part(row, "bar"), used);
  say(part(row, "cache"), ready ? `cache ${percent(used)}` : "");
}

/** A model that is compiled for the device, and runs elsewhere until it is there. */
function onItsWay(row, { name, stage, done, total, why }) {
  mark(row, "data-state", stage);
  say(part(row, "model"), plain(name));
  const part_done = total ? done / total : 0;
  const words = { waiting: "waits for the compiler", compiling: "is compiled", failed: "does not compile" };
  say(part(row, "size"), words[stage] ?? plain(stage));
  part(row, "meter").hidden = stage !== "compiling" || !total;
  fill(part(row, "bar"), part_done);
  say(part(row, "cache"), stage === "compiling" && total ? percent(part_done) : "");
  mark(row, "title", why ? plain(why) : "It runs elsewhere meanwhile");
}
