// Why a job is where it is: its placements, with the candidates that lost.

import { at, made, say } from "./dom.js";
import { ask } from "./stream.js";
import { CAUSES, lost, number, plain, span } from "./words.js";

const dialog = at("why");
const COLUMNS = ["Device", "Wait", "Load", "Read", "Copy", "Write", "Joules", "Score", "Verdict"];

at("why-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  // A click beside the dialog hits the dialog itself, one inside hits what is there.
  if (event.target === dialog) dialog.close();
});

/** Opens the dialog about a job of a state. */
export async function explain(job, state) {
  const device = state.devices.find((one) => one.id === job.device);
  say(at("why-title"), `Why job ${job.job} is on ${plain(device?.name ?? `device ${job.device}`)}`);
  say(at("why-says"), plain(job.why));
  const body = at("why-body");
  body.replaceChildren(made("p", "Asking …", "hint"));
  dialog.dataset.job = job.job;
  dialog.showModal();
  at("why-title").focus();
  const shown = await placements(job, state.requests?.[job.job]).catch((error) => [made("p", error.message, "reason")]);
  // Another job may have been asked about meanwhile.
  if (dialog.dataset.job === String(job.job)) body.replaceChildren(...shown);
}

async function placements(job, request) {
  if (!request) return [made("p", "The server does not say which request this job belongs to.", "hint")];
  const response = await ask(`/api/troika/placements/${encodeURIComponent(request)}`);
  const answer = await response.json();
  const all = Array.isArray(answer) ? answer : answer.placements;
  const found = all.find((one) => one.decisions.some((decision) => decision.job === job.job)) ?? all[0];
  if (!found) return [made("p", "Nothing is known of its placement any more.", "hint")];
  return found.decisions.toReversed().flatMap((decision) => told(decision, found.devices));
}

function told(decision, devices) {
  const name = (id) => plain(devices[id] ?? `device ${id}`);
  const place = ({ prefill, decode }) =>
    prefill === decode ? name(decode) : `${name(prefill)} reads, ${name(decode)} writes`;
  const heading = made("h3", place(decision));
  const cause = CAUSES[decision.cause] ?? plain(decision.cause);
  const how = made("p", `${cause} Class ${plain(decision.class)}, policy ${plain(decision.policy)}.`, "hint");

  const table = made("table");
  table.append(made("caption", "All candidates, the best first", "unseen"));
  const head = table.createTHead().insertRow();
  for (const column of COLUMNS) {
    const cell = made("th", column);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const candidate of decision.candidates) {
    const row = body.insertRow();
    const first = made("th", place(candidate));
    first.scope = "row";
    row.append(first);
    const it = candidate.forecast;
    const times = ["wait_s", "load_s", "prefill_s", "copy_s", "decode_s"].map((field) => (it ? span(it[field]) : "–"));
    const figures = [...times, it ? number(it.joules) : "–", it ? number(it.score) : "–"];
    for (const figure of figures) row.append(made("td", figure, "figure"));
    row.append(made("td", lost(candidate.lost), candidate.lost ? "" : "won"));
  }
  const scroll = made("div", "", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "Candidates");
  scroll.append(table);
  const spread = decision.candidates.find((candidate) => !candidate.lost)?.forecast?.spread;
  const parts = [heading, how, scroll];
  if (spread > 1) parts.push(made("p", `Times are estimates, off by a factor of ${number(spread)} at most. A lower score is better.`, "hint"));
  return parts;
}
