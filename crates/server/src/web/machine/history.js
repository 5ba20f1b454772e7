// The last minute of each device, which the server does not keep: it is gathered here, from the states as they come.

const MINUTE_S = 60;
/** Over how long speeds are taken: long enough to be read, short enough to be now. */
const RATE_S = 4;

const samples = new Map();
let newest = -Infinity;

/** Takes in a state. */
export function remember(state) {
  const now = state.at / 1e6;
  // The server's clock began anew.
  if (now < newest) samples.clear();
  newest = now;
  for (const device of state.devices) {
    const list = samples.get(device.id) ?? [];
    samples.set(device.id, list);
    list.push({ at: now, busy: device.busy, read: device.prefill_tokens, written: device.decode_tokens });
    while (list[0].at < now - MINUTE_S) list.shift();
  }
}

/** Tokens a second that a device read and wrote of late; NaN while that is not known. */
export function rates(id) {
  const list = samples.get(id) ?? [];
  const last = list.at(-1);
  const first = list.find((sample) => sample.at >= newest - RATE_S);
  const passed = last ? last.at - first.at : 0;
  if (passed < 0.4) return { reading: NaN, writing: NaN };
  const rate = (what) => Math.max(0, last[what] - first[what]) / passed;
  return { reading: rate("read"), writing: rate("written") };
}

/** The busy shares of the last minute as lines of a drawing of this size. */
export function spark(id, width, height) {
  const list = samples.get(id) ?? [];
  const x = (sample) => (width * (1 + (sample.at - newest) / MINUTE_S)).toFixed(1);
  const y = (sample) => (height - 1 - (height - 2) * Math.min(1, Math.max(0, sample.busy))).toFixed(1);
  const line = list.map((sample, i) => `${i ? "L" : "M"}${x(sample)} ${y(sample)}`).join("");
  const area = list.length ? `${line}L${width} ${height}L${x(list[0])} ${height}Z` : "";
  return { line, area };
}
