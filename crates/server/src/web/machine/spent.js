// What the month took: energy here, money elsewhere, and the last that left.

import { at, follow, made, say } from "../dom.js";
import { table } from "./account.js";
import { ask } from "../stream.js";
import { bytes, count, number, plain } from "../words.js";

/** Receipts are no news: they are asked for now and then, while the page is seen. */
const PERIOD_MS = 15000;

const OUTCOMES = {
  answered: "answered",
  refused: "refused",
  failed: "failed",
  late: "came too late",
  cancelled: "cancelled",
};

let asked = -Infinity;

/** Asks for the receipts if it is time. Servers and keys that have none show none. */
export async function spent() {
  if (performance.now() - asked < PERIOD_MS) return;
  asked = performance.now();
  try {
    show(await (await ask("/api/troika/receipts")).json());
  } catch (error) {
    // What was told stays, unless it may not be told any more.
    if (error.status) at("spent").hidden = true;
  }
}

/** With another key, others may be told. */
export function spentAgain() {
  asked = -Infinity;
}

function show({ month, currency, local, remote }) {
  at("spent").hidden = local.kwh === null && remote === null;
  say(at("spent-title"), `Spent in ${plain(month)}`);
  const sides = [["here", "This machine", here(local, currency)]];
  if (remote) sides.push(["away", "Remote", away(remote)]);
  follow(at("spent-sides"), sides, ([key]) => key, card, (node, [, name, lines]) => {
    say(node.querySelector("h3"), name);
    follow(node.querySelector("ul"), lines.map((line, i) => [i, line]), ([i]) => i, () => made("li"), (item, [, line]) => say(item, line));
  });
  last(remote?.last ?? []);
}

function card() {
  const node = made("article", "", "card");
  node.append(made("h3"), made("ul"));
  return node;
}

function here({ kwh, since, cost, kwh_price: price }, currency) {
  if (kwh === null) return ["Its energy is not known."];
  const money = cost === null ? "" : `, ${amount(cost, currency)}`;
  return [`${number(kwh)} kWh${money}`, `since ${plain(since)}, at ${amount(price, currency)} a kWh; the devices alone, measured or estimated`];
}

function away({ total, spent: { this_month: _, today: __, ...budgets }, by_remote: remotes }) {
  const costs = Object.entries(total.cost).map(([currency, sum]) => amount(sum, currency));
  if (total.cost_unknown) costs.push(`${count(total.cost_unknown)} of unknown cost`);
  const lines = [costs.join(", ") || "nothing"];
  const budget = budgets.budget_per_month;
  if (budget !== null) lines[0] += ` of ${plain(budget)}`;
  lines.push(`${requests(total)}, ${bytes(total.bytes_out)} out, ${bytes(total.bytes_in)} in`);
  for (const [name, sum] of Object.entries(remotes)) {
    const of = Object.entries(sum.cost).map(([currency, cost]) => amount(cost, currency));
    lines.push(`${plain(name)}: ${requests(sum)}${of.length ? `, ${of.join(", ")}` : ""}`);
  }
  return lines;
}

const requests = ({ requests: n, open }) => `${n === 1 ? "1 request" : `${count(n)} requests`}${open ? ` (${count(open)} without an end)` : ""}`;

/** Money with as many digits as say something: a request costs fractions of a cent. */
function amount(text, currency) {
  const value = Number(text);
  return `${Number.isFinite(value) ? (value >= 10 ? value.toFixed(2) : value.toPrecision(3)) : plain(text)} ${plain(currency)}`;
}

/** The last that left, in the place of those before. */
function last(receipts) {
  at("spent-last").hidden = receipts.length === 0;
  const rows = receipts.map(({ at: when, to, rule, bytes_out: out, end }) => [
    plain(when).replace("T", " ").replace(/\.\d+Z$/, ""),
    made("td", plain(to)),
    made("td", plain(rule)),
    bytes(out),
    end?.cost == null ? "–" : amount(end.cost, end.currency),
    made("td", end ? (OUTCOMES[end.outcome] ?? plain(end.outcome)) : "no end yet"),
  ]);
  const told = JSON.stringify(receipts);
  const body = at("spent-table");
  // A table that somebody reads or scrolls is left alone while it is the same.
  if (body.dataset.told === told) return;
  body.dataset.told = told;
  body.replaceChildren(table("What left last", ["When (UTC)", "To", "Rule", "Bytes out", "Cost", "Outcome"], rows));
}
