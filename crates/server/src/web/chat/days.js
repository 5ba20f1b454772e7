// When something was, in people's words; and which part of a text was looked for.

import { made } from "../dom.js";
import { plain } from "../words.js";

const DAY_MS = 86_400_000;

/** A time of the server: seconds or milliseconds since 1970, or as it is written. */
export function when(value) {
  if (typeof value !== "number") return new Date(value);
  return new Date(value < 1e11 ? value * 1000 : value);
}

/** The name of a day, seen from now. */
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

/** A letter as it is looked for: without case and accents. */
const folded = (letter) => letter.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** A text with what was looked for in it marked, as parts. */
export function hits(text, query) {
  const letters = [...plain(text)];
  const sought = [...query].map(folded).join("");
  if (!sought) return [letters.join("")];
  const places = [];
  let all = "";
  for (const [i, letter] of letters.entries()) {
    const one = folded(letter);
    all += one;
    for (let n = 0; n < one.length; n += 1) places.push(i);
  }
  const parts = [];
  let done = 0;
  for (let at = all.indexOf(sought); at >= 0; at = all.indexOf(sought, at + sought.length)) {
    const [from, to] = [places[at], places[at + sought.length - 1] + 1];
    if (from < done) continue;
    parts.push(letters.slice(done, from).join(""), made("mark", letters.slice(from, to).join("")));
    done = to;
  }
  parts.push(letters.slice(done).join(""));
  return parts;
}

/** A place of the server's that was found, as parts. */
export const snippet = (pieces) => pieces.map(({ text, hit }) => (hit ? made("mark", plain(text)) : plain(text)));
