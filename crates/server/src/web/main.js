// The page about what the machine is doing: states come in, twice a second, and the document follows them.

import { at, follow as keyed, made, mark, say } from "./dom.js";
import { remember } from "./history.js";
import { lanes, queues } from "./lanes.js";
import { pools } from "./pools.js";
import { spent, spentAgain } from "./spent.js";
import { ask, follow, keep, key } from "./stream.js";
import { lookUp } from "./why.js";
import { POLICIES, SOURCES, number, percent, plain, state as split } from "./words.js";

/** Until the server has answered, its states would still tell the old policy. */
let policyPending = false;
/** What was said last about what the news are about. */
const told = new Map();

/** Tells those who listen to the page, once, and only of what changed since the page was opened. */
function news(about, text) {
  const before = told.get(about);
  told.set(about, text);
  if (before !== undefined && before !== text) say(at("news"), text);
}

function link(state, text) {
  mark(at("link"), "data-state", state);
  say(at("link"), text);
  news("link", text);
}

function notice(text) {
  at("notice").hidden = !text;
  say(at("notice"), text);
}

function show(state) {
  link("live", "Live");
  notice("");
  at("key").hidden = true;
  at("main").hidden = false;
  mark(document.body, "data-link", "live");
  remember(state);
  facts(state);
  policy(state.policy);
  queues(state);
  lanes(state);
  pools(state);
  spent();
  for (const device of state.devices) {
    const { word, reason } = split(device.state);
    news(`device ${device.id}`, `${plain(device.name)} is ${word}${reason ? `: ${reason}` : ""}`);
  }
}

function facts(state) {
  const battery = state.power?.battery;
  const list = [
    ["power", battery ? `battery${battery.percent == null ? "" : `, ${Math.round(battery.percent)} %`}` : "mains"],
    ["watts", watts(state.devices)],
    ["jobs", `${state.jobs.length} at work`],
  ];
  // Only those to which a job was offered are known here.
  for (const remote of state.away ?? []) {
    const jobs = remote.jobs === 1 ? "1 job" : `${remote.jobs} jobs`;
    list.push([plain(remote.name), `${plain(remote.name)}: ${remote.closed ? plain(remote.closed) : `${jobs} there`}`]);
  }
  if (state.machine_watts != null) list.push(["machine", `${number(state.machine_watts)} W of the whole machine`]);
  if (state.virtual) list.push(["virtual", `virtual devices: poses as ${plain(state.virtual)}`]);
  if (state.budget) {
    const { spent, watt_hours: budget } = state.budget;
    const gone = spent >= budget ? ", spent" : "";
    list.push(["budget", `${number(spent)} of ${number(budget)} Wh today (${percent(spent / budget)}${gone})`]);
  }
  keyed(at("facts"), list, ([name]) => name, () => made("li"), (node, [name, text]) => {
    mark(node, "data-fact", name);
    say(node, text);
  });
}

/** The watts of the devices together, and where that comes from. */
function watts(devices) {
  const known = devices.filter((device) => device.watts_source !== "unknown");
  if (devices.length && !known.length) return "watts unknown";
  const sum = known.reduce((total, device) => total + device.watts, 0);
  const sources = new Set(known.map((device) => device.watts_source));
  const only = sources.size === 1 ? [...sources][0] : "mixed";
  const whose = known.length === devices.length ? "over all devices" : "of the devices that tell";
  return `${number(sum)} W ${whose}${SOURCES[only] ? `, ${SOURCES[only]}` : ""}`;
}

function policy(name) {
  if (policyPending) return;
  for (const radio of at("policy").querySelectorAll("input")) radio.checked = radio.value === name;
  say(at("policy-says"), POLICIES[name] ?? `The policy is ${plain(name)}.`);
  news("policy", `The policy is ${plain(name)}`);
}

at("policy").addEventListener("change", async (event) => {
  const name = event.target.value;
  policyPending = true;
  say(at("policy-says"), POLICIES[name]);
  try {
    const body = JSON.stringify({ policy: name });
    await ask("/api/troika/policy", { method: "PUT", headers: { "Content-Type": "application/json" }, body });
  } catch (error) {
    say(at("policy-says"), `The policy stays as it was: ${plain(error.message)}`);
    // Long enough to be read before the next state puts the old sentence there.
    await new Promise((done) => setTimeout(done, 4000));
  }
  policyPending = false;
});

const stream = follow("/api/troika/events", {
  state: show,
  gone(error, wait) {
    mark(document.body, "data-link", "lost");
    link("lost", "Disconnected");
    const seen = at("main").hidden ? "" : " What you see is how it was.";
    const what = error.status ? plain(error.message) : "The server does not answer.";
    notice(`${what}${seen} Trying again ${wait < 1000 ? "at once" : `in ${Math.round(wait / 1000)} s`}.`);
  },
  refused(error) {
    link("key", "A key is needed");
    notice("");
    at("main").hidden = true;
    say(at("key-wrong"), key() ? plain(error.message) : "");
    keep("");
    at("key").hidden = false;
    at("key-input").focus();
  },
});

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  keep(at("key-input").value.trim());
  at("key-input").value = "";
  link("connecting", "Connecting …");
  spentAgain();
  stream.again();
});

at("lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const request = at("lookup-input").value.trim();
  if (request) lookUp(request);
});
