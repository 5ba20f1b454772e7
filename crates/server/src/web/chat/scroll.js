// Keeps the reader at the end of the conversation for as long as the reader stays there.

import { at } from "../dom.js";

/** So near to the end is at the end. */
const NEAR_PX = 48;

const area = at("scroll");
let isAtEnd = true;
let before = 0;

/** Goes to the end if the reader is there, or is to be. */
export function keepToEnd(always = false) {
  if (always) isAtEnd = true;
  if (isAtEnd) area.scrollTop = area.scrollHeight;
  before = area.scrollTop;
  at("to-end").hidden = isAtEnd;
}

area.addEventListener("scroll", () => {
  const isNear = area.scrollHeight - area.scrollTop - area.clientHeight < NEAR_PX;
  // Only going up leaves the end: otherwise it is the end that went away.
  if (isNear) isAtEnd = true;
  else if (area.scrollTop < before - 1) isAtEnd = false;
  before = area.scrollTop;
  at("to-end").hidden = isAtEnd;
}, { passive: true });

at("to-end").addEventListener("click", () => {
  keepToEnd(true);
  at("box").focus();
});

// Messages get their heights when they are seen, windows and fields when they change.
const sizes = new ResizeObserver(() => keepToEnd());
sizes.observe(at("messages"));
sizes.observe(area);
