// What the machine is doing: states come in, twice a second, and the document follows them.

import { at, follow as keyed, made, mark, say } from "../dom.js";
import { answered, gone, news, refused } from "../shell.js";
import { ask, follow } from "../stream.js";
import { POLICIES, SOURCES, number, percent, plain, state as split } from "../words.js";
import { remember } from "./history.js";
import { lanes, queues } from "./lanes.js";
import { pools } from "./pools.js";
import { spent, spentAgain } from "./spent.js";
import { lookUp } from "./why.js";

/** Until the server has answered, its states would still tell the old policy. */
let policyPending = false;

function show(state) {
  answered();
  at("machine").classList.remove("unknown");
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

const stream = follow("/api/troika/events", { state: show, gone, refused });

/** The view is shown. */
export const enter = () => stream.again();

/** Another one is: nobody looks at the states. */
export const leave = () => stream.stop();

/** There is another key. */
export function again() {
  spentAgain();
  stream.again();
}

at("lookup").addEventListener("submit", (event) => {
  event.preventDefault();
  const request = at("lookup-input").value.trim();
  if (request) lookUp(request);
});
