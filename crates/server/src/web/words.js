// Numbers and names in people's words; the same ones as in the terminal.

/** A text from elsewhere, without what would change how the text around it is read. */
export function plain(text) {
  return String(text ?? "").replace(/[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
}

/** Three significant digits, or all before the point. */
export function number(value) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** With thin spaces between thousands. */
export function count(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u2009");
}

/** `6.1 GiB` */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (value >= 1023.95 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

/** `240 ms`, `4.2 s`, `3 min`, `2 h 5 min` */
export function span(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds <= 0) return "0 s";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

/** What each policy does. */
export const POLICIES = {
  fastest: "Every job as soon as possible.",
  balanced: "People and their programs fast, the rest frugal.",
  frugal: "As few joules as the needs of each job's class allow.",
  cool: "As few watts at a time as the needs of each job's class allow: quiet fans.",
  battery: "Frugal, and what nobody waits for waits for the mains.",
  PREFER_CPU: "Balanced, but on the CPU wherever it will do.",
  PREFER_GPU: "Balanced, but on the GPU wherever it will do.",
  PREFER_NPU: "Balanced, but on the NPU wherever it will do.",
};

/** Where watts come from; without a word where nobody knows them. */
export const SOURCES = { estimated: "estimated", measured: "measured", mixed: "partly measured", unknown: "" };

/** Watts with their source, or that they are not known. */
export function watts(value, source) {
  if (source === "unknown") return "watts unknown";
  return `${number(value)} W`;
}

export const PHASES = { prefill: "reading", decode: "writing" };

/** What led to a placement. */
export const CAUSES = {
  arrival: "It was new.",
  spill: "Its usual device was full.",
  home: "Its usual device was free again.",
  replay: "Its device failed; it went on from its tokens.",
  gain: "Elsewhere it ends sooner, or costs less, by more than the way there.",
  handover: "Its prompt was read; its answers are written where that goes best.",
};

/** Why a candidate was not taken. */
export function lost(reason) {
  switch (reason?.why) {
    case undefined:
      return "taken";
    case "not_required":
      return "another device is required";
    case "too_late":
      return "would miss the deadline";
    case "too_slow":
      return "too slow for its class";
    case "not_preferred":
      return "the policy prefers another sort of device";
    case "worse":
      return `${reason.factor.toFixed(2)} times the winner's cost`;
    default:
      return plain(reason.because ?? reason.why);
  }
}

/** A device's state in two parts: the word, and the reason if there is one. */
export function state(text) {
  const [, word, reason] = /^(\w+)[\s:,]*(.*)$/su.exec(plain(text)) ?? [null, plain(text), ""];
  return { word, reason };
}
