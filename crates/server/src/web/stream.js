// Follows the server's events, by `fetch` rather than `EventSource`: that one can send no key, and does not tell why it
// was refused.

const WAIT_MIN_MS = 500;
const WAIT_MAX_MS = 8000;
/** The server speaks twice a second: one that is silent for so long is gone, though nobody closed the connection. */
const SILENCE_MAX_MS = 10000;

const STORED = "troika-key";

/** The key that was entered in this tab, if any. */
export const key = () => sessionStorage.getItem(STORED) ?? "";

export function keep(value) {
  if (value) sessionStorage.setItem(STORED, value);
  else sessionStorage.removeItem(STORED);
}

/** Asks our server; a refusal is an error with its `status` and the server's own words. */
export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (key()) headers.Authorization = `Bearer ${key()}`;
  const response = await fetch(path, { cache: "no-store", ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const told = body?.error?.message ?? body?.error;
  const error = new Error(typeof told === "string" ? told : `the server answered ${response.status}`);
  error.status = response.status;
  throw error;
}

/** The lines of an answer as they come. One that comes in many pieces is put together once. */
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let parts = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    let from = 0;
    for (let to = value.indexOf("\n"); to >= 0; to = value.indexOf("\n", from)) {
      parts.push(value.slice(from, to));
      from = to + 1;
      yield parts.join("").replace(/\r$/, "");
      parts = [];
    }
    if (from < value.length) parts.push(value.slice(from));
  }
}

/** The events of a stream with their `name` and JSON `data`, until it ends; `null` for a sign of life. */
export async function* events(response) {
  let name = "message";
  let data = [];
  for await (const line of lines(response)) {
    if (line.startsWith("data:")) data.push(line.slice(5));
    else if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith(":")) yield null;
    else if (line === "") {
      if (data.length) yield { name, data: JSON.parse(data.join("\n")) };
      name = "message";
      data = [];
    }
  }
}

/**
 * Follows `path` while it is wanted (`again` to `stop`) and the page is seen. `on.state` is given each event, `on.gone` why
 * there is none and when it is tried again (in ms), `on.refused` a refusal that a key may change: then nothing is tried
 * until `again`.
 */
export function follow(path, on) {
  let wanted = false;
  let attempt = null;
  let wait = WAIT_MIN_MS;
  let timer = 0;

  async function once() {
    const mine = new AbortController();
    attempt = mine;
    let watchdog = 0;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => mine.abort(), SILENCE_MAX_MS);
    };
    try {
      alive();
      const response = await ask(path, { signal: mine.signal, headers: { Accept: "text/event-stream" } });
      for await (const event of events(response)) {
        alive();
        if (event === null || mine !== attempt) continue;
        wait = WAIT_MIN_MS;
        try {
          on.state(event.data);
        } catch (error) {
          // Ours to mend, and nothing that another connection would change.
          console.error(error);
        }
      }
      throw new Error("the server ended the connection");
    } catch (error) {
      if (mine !== attempt) return;
      if (error.status === 401 || error.status === 403) on.refused(error);
      else later(error);
    } finally {
      clearTimeout(watchdog);
    }
  }

  function later(error) {
    on.gone(error, wait);
    timer = setTimeout(once, wait * (0.75 + Math.random() / 2));
    wait = Math.min(WAIT_MAX_MS, wait * 2);
  }

  function end() {
    clearTimeout(timer);
    const old = attempt;
    attempt = null;
    old?.abort();
  }

  function again() {
    wanted = true;
    end();
    wait = WAIT_MIN_MS;
    if (!document.hidden) once();
  }

  function stop() {
    wanted = false;
    end();
  }

  // Nobody looks: the machine has better things to do.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) end();
    else if (wanted) again();
  });
  return { again, stop };
}
