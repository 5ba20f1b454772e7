// When things are made: what a reader waits for with the next frame, the rest while nothing else is to do. Never for long.

/** Of the 16 ms of a frame, the browser needs the rest to lay out and paint. */
const FRAME_MS = 6;
const IDLE_MS = 12;

const soon = new Set();
const later = new Set();
const after = [];
let isAsked = false;
let isIdleAsked = false;

const idle = window.requestIdleCallback ?? ((run) => setTimeout(() => run({ timeRemaining: () => IDLE_MS }), 30));

export const afterFrames = (call) => after.push(call);

/** Has a message's blocks made, in the next frames. */
export function make(body) {
  later.delete(body);
  soon.add(body);
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(frame);
}

/** Has a message's blocks made when there is time. */
export function makeLater(body) {
  later.add(body);
  if (isIdleAsked) return;
  isIdleAsked = true;
  idle(rest, { timeout: 300 });
}

function frame() {
  isAsked = false;
  const until = performance.now() + FRAME_MS;
  for (const body of soon) {
    if (!body.work(until)) break;
    soon.delete(body);
  }
  for (const call of after) call();
  if (soon.size && !isAsked) {
    isAsked = true;
    requestAnimationFrame(frame);
  }
}

function rest(deadline) {
  isIdleAsked = false;
  const until = performance.now() + Math.min(IDLE_MS, Math.max(4, deadline.timeRemaining()));
  // The newest first: there the reader is.
  for (const body of [...later].reverse()) {
    if (!body.work(until)) break;
    later.delete(body);
  }
  for (const call of after) call();
  const [next] = later;
  if (next) makeLater(next);
}
