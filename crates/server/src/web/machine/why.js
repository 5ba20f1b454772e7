// Why a job is where it is: its placements, with the candidates that lost; and, once it is done, what it took.

import { account, table } from "./account.js";
import { at, made, say } from "../dom.js";
import { ask } from "../stream.js";
import { CAUSES, lost, number, plain, span } from "../words.js";

const dialog = at("why");
const COLUMNS = ["Device", "Wait", "Load", "Read", "Copy", "Write", "Joules", "Score", "Verdict"];
const TIMES = ["wait_s", "load_s", "prefill_s", "copy_s", "decode_s"];

/** Counts what the dialog was opened for: an answer that comes late is for another question. */
let asked = 0;

at("why-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  // A click beside the dialog hits the dialog itself, one inside hits what is there.
  if (event.target === dialog) dialog.close();
});

/** Opens the dialog about a job of a state. */
export function explain(job, state) {
  const places = [...state.devices, ...(state.away ?? []).map(({ device: id, name }) => ({ id, name }))];
  const device = places.find((one) => one.id === job.device);
  const title = `Why job ${job.job} is on ${plain(device?.name ?? `device ${job.device}`)}`;
  const request = state.requests?.[job.job];
  return open(title, plain(job.why), async () => {
    if (!request) return [made("p", "The server does not say which request this job belongs to.", "hint")];
    const all = await placements(request);
    const found = all.find((one) => one.decisions.some((decision) => decision.job === job.job));
    if (!found) return [made("p", "Nothing is known of its placement any more.", "hint")];
    return [...placed(found), made("p", `Its request is ${plain(request)}.`, "hint")];
  });
}

/** Opens the dialog about a request, by the number that its answer had: also of those that are done. */
export function lookUp(request) {
  return open(`Request ${plain(request)}`, "", async () => {
    const all = await placements(request);
    return all.flatMap((one) => {
      const [first] = one.decisions;
      const name = `Job ${first?.job ?? "?"}, ${plain(one.model)}, ${one.account ? "done" : "in progress"}`;
      return [made("h3", name, "job-name"), ...placed(one)];
    });
  });
}

async function open(title, says, answer) {
  asked += 1;
  const mine = asked;
  say(at("why-title"), title);
  say(at("why-says"), says);
  const body = at("why-body");
  body.replaceChildren(made("p", "Asking …", "hint"));
  dialog.showModal();
  at("why-title").focus();
  const shown = await answer().catch((error) => [made("p", plain(error.message), "reason")]);
  if (mine === asked) body.replaceChildren(...shown);
}

async function placements(request) {
  const response = await ask(`/api/troika/placements/${encodeURIComponent(request)}`);
  return response.json();
}

function placed(one) {
  const took = one.account ? account(one.account, one.devices) : [];
  return [...took, ...one.decisions.toReversed().flatMap((decision) => told(decision, one.devices))];
}

function told(decision, devices) {
  const name = (id) => plain(devices[id] ?? `device ${id}`);
  const place = ({ prefill, decode }) =>
    prefill === decode ? name(decode) : `${name(prefill)} reads, ${name(decode)} writes`;
  const heading = made("h3", place(decision));
  const cause = CAUSES[decision.cause] ?? plain(decision.cause);
  const how = made("p", `${cause} Class ${plain(decision.class)}, policy ${plain(decision.policy)}.`, "hint");
  const rows = decision.candidates.map((candidate) => {
    const it = candidate.forecast;
    const figures = it ? [...TIMES.map((field) => span(it[field])), joules(it), number(it.score)] : Array(7).fill("–");
    const verdict = made("td", lost(candidate.lost), candidate.lost ? "" : "won");
    return [place(candidate), ...figures, verdict];
  });
  const parts = [heading, how, table("All candidates, the one that was taken first", COLUMNS, rows)];
  const spread = decision.candidates.find((candidate) => !candidate.lost)?.forecast?.spread;
  const isAssumed = decision.candidates.some(({ forecast }) => forecast?.joules_assumed);
  if (isAssumed) parts.push(made("p", "Joules after ≲ are what devices of that kind draw at most: of this one nobody knows.", "hint"));
  if (spread > 1) parts.push(made("p", `Times are estimates, meant to hold within a factor of ${number(spread)}. A lower score is better.`, "hint"));
  return parts;
}

/** What a place is expected to use, or is taken to use where nobody knows. */
function joules(it) {
  return it.joules === null && it.joules_assumed ? `≲ ${number(it.joules_assumed)}` : number(it.joules);
}
