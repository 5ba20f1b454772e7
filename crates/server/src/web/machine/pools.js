// Pools of memory as bars: who has what of it.

import { at, follow, made, mark, part, say, stamp } from "../dom.js";
import { bytes, plain } from "../words.js";

const NAMES = { models: "models", loading: "loading", others: "other programs", reserve: "reserve", free: "free" };

/** The parts of a pool in the order of the bar; what is free cannot be less than nothing. */
function shares(pool) {
  const { models, loading, others, reserve } = pool;
  const free = Math.max(0, pool.capacity - models - loading - others - reserve);
  return Object.entries({ models, loading, others, reserve, free }).map(([name, size]) => ({ name, size }));
}

export function pools(state) {
  follow(at("pools"), state.pools, (pool) => pool.id, () => stamp("t-pool"), (card, pool) => {
    say(part(card, "name"), plain(pool.name));
    say(part(card, "capacity"), bytes(pool.capacity));
    const all = shares(pool);
    const bar = part(card, "stack");
    mark(bar, "aria-label", all.map(({ name, size }) => `${NAMES[name]} ${bytes(size)}`).join(", "));
    follow(bar, all, (share) => share.name, (share) => made("span", "", `part ${share.name}`), (node, share) => {
      node.style.flexGrow = String(share.size / pool.capacity);
      node.hidden = share.size === 0;
    });
    follow(part(card, "legend"), all, (share) => share.name, entry, (node, share) => {
      say(node.lastElementChild, bytes(share.size));
    });
    const over = pool.models + pool.loading + pool.others + pool.reserve - pool.capacity;
    const note = part(card, "over");
    note.hidden = over <= 0;
    say(note, over > 0 ? `${bytes(over)} more is taken or reserved than there is.` : "");
  });
}

function entry(share) {
  const node = made("div");
  const term = made("dt");
  term.append(made("span", "", `swatch ${share.name}`), NAMES[share.name]);
  node.append(term, made("dd"));
  return node;
}
