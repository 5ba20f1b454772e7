// Getting a model: what it is and whether it fits, before anything is loaded; then how far it is.

import { at, fill, follow, made, mark, say } from "../dom.js";
import { announce } from "../shell.js";
import { bytes, number, plain, span } from "../words.js";
import * as api from "./api.js";
import { isBare, onPicker, pick, refreshModels } from "./picker.js";
import { toast } from "./toast.js";

const FITS = { fits: "✓ Fits", tight: "≈ Tight", "does not fit": "✕ Does not fit", unknown: "? Not known" };
const STATES = { looking: "Looking …", downloading: "", verifying: "Checking …", done: "Done", failed: "Failed", stopped: "Stopped" };
const OVER = ["done", "failed", "stopped"];

/** What was looked at last, and the reference it is of. */
let found = null;
let looking = null;
/** The pulls that are followed here, by number. */
const followed = new Map();

const says = (text, isBad = false) => {
  say(at("get-says"), text ? plain(text) : "");
  at("get-says").classList.toggle("bad", isBad);
};

async function look(from) {
  looking?.abort();
  const mine = new AbortController();
  looking = mine;
  found = null;
  at("found").hidden = true;
  says("Looking …");
  try {
    found = await api.look(from, mine.signal);
    says("");
    show();
  } catch (error) {
    if (!mine.signal.aborted) says(error.message, true);
  }
}

/** A file of several as a reference of its own; `null` where only the whole can be looked at. */
function reference(choice) {
  const [, repository] = /^(hf:[^:]+)/.exec(found.from) ?? [];
  return repository ? `${repository}:${choice}` : null;
}

function show() {
  const { fit } = found;
  at("found").hidden = false;
  say(at("found-name"), plain(found.name));
  const left = found.bytes - (found.have_bytes ?? 0);
  const here = found.have_bytes ? `, ${bytes(left)} of it still to load` : "";
  const speed = fit.tokens_per_second ? `about ${number(fit.tokens_per_second)} tokens/s${fit.device ? ` on ${plain(fit.device)}` : ""}` : "";
  const facts = [
    ["Size", `${bytes(found.bytes)}${here}; ${bytes(found.disk_free_bytes)} free on the disk`],
    ["Form", plain(found.quantization)],
    ["Licence", plain(found.licence ?? "not told: ask where it comes from")],
    ["Memory", `${FITS[fit.verdict] ?? plain(fit.verdict)}${fit.memory_bytes ? `, needs ${bytes(fit.memory_bytes)}` : ""}. ${plain(fit.why)}`],
    ["Speed", speed],
    ["From", plain(found.source)],
  ].filter(([, text]) => text);
  const entry = () => {
    const node = made("div");
    node.append(made("dt"), made("dd"));
    return node;
  };
  follow(at("found-facts"), facts, ([name]) => name, entry, (node, [name, text]) => {
    mark(node, "data-fit", name === "Memory" ? fit.verdict : "");
    say(node.firstElementChild, name);
    say(node.lastElementChild, text);
  });
  choices();
  say(at("get-it"), `Get it (${bytes(left)})`);
  announce(`${found.name}: ${facts.map((fact) => fact.join(" ")).join(", ")}`);
}

function choices() {
  const all = found.choices ?? [];
  at("found-choices").hidden = all.length < 2;
  const select = at("found-choice");
  const names = new Set(found.files.map((file) => file.name));
  select.replaceChildren(...all.map((choice) => {
    const told = [plain(choice.quantization ?? choice.name), bytes(choice.bytes)].join(", ");
    const option = made("option", told);
    option.value = choice.name;
    option.selected = names.has(choice.name);
    return option;
  }));
}

at("found-choice").addEventListener("change", (event) => {
  const other = reference(event.target.value);
  if (other) look(other);
  else found.file = event.target.value;
});

at("get").addEventListener("submit", (event) => {
  event.preventDefault();
  const from = at("get-from").value.trim();
  if (from) look(from);
});

for (const button of document.querySelectorAll("#get [data-from]")) {
  button.addEventListener("click", () => {
    at("get-from").value = button.dataset.from;
    look(button.dataset.from);
  });
}

at("get-it").addEventListener("click", async () => {
  try {
    const pull = await api.pull({ from: found.from, file: found.file });
    at("found").hidden = true;
    says("");
    keepUp(pull.pull ?? pull);
  } catch (error) {
    says(error.message, true);
  }
});

async function keepUp(pull) {
  progress(pull);
  if (OVER.includes(pull.state) || followed.has(pull.id)) return;
  followed.set(pull.id, pull);
  announce(`Getting ${pull.name ?? pull.from}`);
  let last = pull;
  while (!OVER.includes(last.state)) {
    try {
      for await (const now of api.pulled(pull.id)) {
        last = now;
        progress(now);
      }
      // A server that went away ends the events in the middle, and comes back to a pull that goes on.
      if (!OVER.includes(last.state)) await new Promise((done) => setTimeout(done, 2000));
    } catch (error) {
      if (error.status) {
        last = { ...last, state: "failed", error: error.message };
        progress(last);
      } else await new Promise((done) => setTimeout(done, 3000));
    }
  }
  followed.delete(pull.id);
  if (last.state !== "done") return announce(`${last.name ?? last.from}: ${STATES[last.state]}`);
  await refreshModels().catch(() => {});
  pick(last.model ?? last.name);
  at("get-dialog").close();
  toast(`${plain(last.model ?? last.name)} is here, and answers from now on`);
}

/** How far a pull is: `1.2 GiB of 4.7 GiB · 52.0 MiB/s · 1 min left` */
function progress(pull) {
  const list = at("pulls");
  let row = [...list.children].find((it) => it.dataset.id === String(pull.id));
  if (!row) {
    row = at("t-pull").content.firstElementChild.cloneNode(true);
    row.dataset.id = String(pull.id);
    row.querySelector("button").addEventListener("click", () => act(row));
    list.append(row);
  }
  row.pull = pull;
  mark(row, "data-state", pull.state);
  const part = (name) => row.querySelector(`[data-f=${name}]`);
  const share = pull.bytes ? pull.done_bytes / pull.bytes : 0;
  const name = plain(pull.name ?? pull.from);
  say(part("name"), name);
  fill(part("bar"), pull.state === "done" ? 1 : share);
  const meter = part("bar").parentNode;
  mark(meter, "aria-label", `How much of ${name} is here`);
  mark(meter, "aria-valuenow", String(Math.round(100 * share)));
  const told = [STATES[pull.state] ?? plain(pull.state)];
  if (!OVER.includes(pull.state) && pull.bytes) told.push(`${bytes(pull.done_bytes)} of ${bytes(pull.bytes)}`);
  if (pull.state === "downloading" && pull.bytes_per_second > 0) {
    const speed = Math.round(pull.bytes_per_second);
    told.push(`${bytes(speed)}/s`, `${span((pull.bytes - pull.done_bytes) / speed)} left`);
  }
  say(part("far"), told.filter(Boolean).join(" · "));
  say(part("error"), pull.error ? plain(pull.error) : "");
  const button = row.querySelector("button");
  button.hidden = pull.state === "done";
  say(button, OVER.includes(pull.state) ? "Go on" : "Stop");
  mark(button, "aria-label", `${button.textContent}: ${name}`);
}

async function act(row) {
  const { pull } = row;
  try {
    if (!OVER.includes(pull.state)) return await api.stopPull(pull.id);
    const again = await api.pull({ from: pull.from });
    row.remove();
    return await keepUp(again.pull ?? again);
  } catch (error) {
    return says(error.message, true);
  }
}

/** Shows what is on its way already; servers that get no models say why when they are asked. */
export async function refreshPulls() {
  try {
    for (const pull of (await api.pulls()).pulls) if (pull.state !== "done") keepUp(pull);
  } catch (error) {
    if (error.status === 404) says("This server gets no models.");
  }
}

/** Without a model of one's own, getting one is the first thing to do: then the form stands in the page. */
function place() {
  at("get-card").hidden = !isBare();
  const home = isBare() && !at("get-dialog").open ? at("get-card") : at("get-dialog");
  if (at("get").parentNode !== home) home.append(at("get"));
}

onPicker({
  known: place,
  more() {
    at("get-dialog").append(at("get"));
    at("get-dialog").showModal();
    at("get-from").focus();
  },
});
at("get-dialog").addEventListener("close", place);
at("get-close").addEventListener("click", () => at("get-dialog").close());
