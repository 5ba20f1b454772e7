// A text of any length: as much of it as a reader wants to see, in pieces that the browser lays out on their own.

import { made, say } from "../dom.js";
import { bytes } from "../words.js";

/** How many characters are shown at once. Ten times as many make a frame late. */
const SHOWN = 200_000;
/** A piece ends with the first line that ends after so many: what is written at the end moves nothing before it. */
const PIECE = 8_000;

/** Shows a text in `holder`; the button for the rest of it goes into `beside`. */
export class Long {
  constructor(holder, beside, shown = SHOWN) {
    this.holder = holder;
    this.beside = beside;
    this.limit = shown;
    this.whole = "";
    this.shown = 0;
    this.button = null;
  }

  append(text) {
    const isWhole = this.shown === this.whole.length;
    this.whole += text;
    if (isWhole && this.shown < this.limit) this.#grow(text.slice(0, this.limit - this.shown));
    this.#tell();
  }

  more() {
    this.limit = this.shown + SHOWN;
    this.#grow(this.whole.slice(this.shown, this.limit));
    this.#tell();
  }

  #grow(text) {
    this.shown += text.length;
    while (text) {
      const last = this.holder.lastChild;
      const room = last ? PIECE - last.textContent.length : 0;
      // Without an end of a line there is no place to part it.
      const isOpen = last && (room > 0 || !last.textContent.endsWith("\n"));
      const end = text.indexOf("\n", isOpen ? Math.max(0, room) : PIECE) + 1 || text.length;
      if (isOpen) last.firstChild.appendData(text.slice(0, end));
      else this.holder.append(made("span", text.slice(0, end)));
      text = text.slice(end);
    }
  }

  #tell() {
    const left = this.whole.length - this.shown;
    if (!left) {
      this.button?.remove();
      this.button = null;
      return;
    }
    if (!this.button) {
      this.button = made("button", "", "more");
      this.button.type = "button";
      this.button.addEventListener("click", () => this.more());
      this.beside.append(this.button);
    }
    say(this.button, `Show more (${bytes(left)} left)`);
  }
}
