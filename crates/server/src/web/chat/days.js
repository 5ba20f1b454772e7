// When something was, in people's words; and which part of a text was looked for.

import { made } from "../dom.js";
import { plain } from "../words.js";

const DAY_MS = 86_400_000;

/** A time of the server: seconds or milliseconds since 1970, or as it is written. */
export function when(value) {
  if (typeof value !== "number") return new Date(value);
  return new Date(value < 1e11 ? value * 1000 : value);
}

export function day(date, now = new Date()) {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const ago = Math.ceil((midnight - date) / DAY_MS);
  if (!Number.isFinite(ago)) return "Some day";
  if (ago <= 0) return "Today";
  if (ago === 1) return "Yesterday";
  if (ago < 7) return date.toLocaleDateString(undefined, { weekday: "long" });
  const isThisYear = date.getFullYear() === now.getFullYear();
  return date.toLocaleDateString(undefined, { month: "long", year: isThisYear ? undefined : "numeric" });
}

/** A text with what was looked for in it marked, as parts; case and accents do not matter. */
export function hits(text, query) {
  const letters = [...query.normalize("NFD").replace(/\p{M}/gu, "")];
  const sought = letters.map((it) => `${it.replace(/[\^$.*+?()[\]{}|/\\]/, "\\$&")}\\p{M}*`).join("");
  if (!sought) return [plain(text)];
  const parts = plain(text).normalize("NFD").split(new RegExp(`(${sought})`, "giu"));
  return parts.map((it) => it.normalize("NFC")).map((it, i) => (i % 2 ? made("mark", it) : it));
}

export const snippet = (pieces) => pieces.map(({ text, hit }) => (hit ? made("mark", plain(text)) : plain(text)));
