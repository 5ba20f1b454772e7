// What a job took in the end, beside what was expected of it when it was placed.

import { made } from "../dom.js";
import { PHASES, SOURCES, count, number, plain, span } from "../words.js";

/** A finished job's account, as parts of a dialog. */
export function account(it, devices) {
  const parts = [made("h3", "What it took"), compared(it), where(it, devices)];
  const turns = [];
  if (it.moves) turns.push(`It moved or gave way ${times(it.moves)}.`);
  if (it.replays) turns.push(`Its prompt was read again ${times(it.replays)}.`);
  if (turns.length) parts.push(made("p", turns.join(" "), "hint"));
  return parts;
}

const times = (n) => (n === 1 ? "once" : `${count(n)} times`);

/** Expected and actual, side by side. */
function compared(it) {
  const hoped = it.expected;
  const expected = (value) => (hoped ? value(hoped) : NaN);
  // Without watts there is no estimate of joules either.
  const isKnown = it.joules !== null;
  const source = isKnown ? (SOURCES[it.joules_source] ?? "of unknown source") : "unknown";
  const rows = [
    ["Until its first step", expected((e) => e.wait_s + e.load_s), it.queue_s, span],
    ["Reading", expected((e) => e.prefill_s), it.prefill_s, span],
    ["First token after", expected((e) => e.wait_s + e.load_s + e.prefill_s), it.ttft_s ?? NaN, span],
    ["Writing", expected((e) => e.copy_s + e.decode_s), it.decode_s, span],
    [`Joules, ${source}`, isKnown ? expected((e) => e.joules) : NaN, it.joules, number],
  ];
  const cells = rows.map(([name, e, a, told]) => [name, told(e), told(a), e > 0 && a > 0 ? `${number(a / e)} times` : "–"]);
  return table("Expected and actual", ["", "Expected", "Actual", "Of expected"], cells);
}

/** What it did where. */
function where(it, devices) {
  const cells = it.spans.map((one) => [
    plain(devices[one.device] ?? `device ${one.device}`),
    made("td", PHASES[one.phase] ?? plain(one.phase)),
    count(one.tokens),
    span(one.device_s),
    number(one.joules),
  ]);
  return table("What it did where", ["Device", "Doing", "Tokens", "Device’s time", "Joules"], cells);
}

/** A table in a box of its own that scrolls where it is wider than the screen. The first cell of a row is its name. */
export function table(name, columns, rows) {
  const node = made("table");
  node.append(made("caption", name, "unseen"));
  const head = node.createTHead().insertRow();
  for (const [i, column] of columns.entries()) {
    const isFigure = i > 0 && rows.every((row) => typeof row[i] === "string");
    const cell = made("th", column, isFigure ? "figure" : "");
    cell.scope = "col";
    head.append(cell);
  }
  const body = node.createTBody();
  for (const [first, ...others] of rows) {
    const row = body.insertRow();
    const cell = made("th", first);
    cell.scope = "row";
    // A text is a figure; what is none comes as a cell of its own.
    row.append(cell, ...others.map((other) => (other instanceof Node ? other : made("td", other, "figure"))));
  }
  const scroll = made("div", "", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", name);
  scroll.append(node);
  return scroll;
}
