"""What the suites share: checks that print `ok` or `FAIL`, and an exit status that says the same.

A suite is a file that makes a `Suite`, hangs checks on it and ends in `suite.main()`. A check is a function of no
arguments that raises when something is wrong. The server is not started here: `run` does that.
"""

import argparse
import re
import sys
import time
import traceback


class Skip(Exception):
    """Raised by a check that cannot be made here; its text says why."""


class Suite:
    """The checks of one client, in the order they are written."""

    def __init__(self, name):
        self.name = name
        self.checks = []
        self.url = self.model = ""
        self.pid = None

    def check(self, name):
        """Registers a check under a name that says what holds if it passes."""

        def register(function):
            self.checks.append((name, function))
            return function

        return register

    def parse(self, arguments=None):
        parser = argparse.ArgumentParser(description=f"Checks of {self.name} against a running server.")
        parser.add_argument("url", help="the server, as in http://127.0.0.1:11435")
        parser.add_argument("--model", default="tiny-chat", help="the model to talk to (%(default)s)")
        parser.add_argument("--pid", type=int, help="the server's process, whose memory is watched")
        parser.add_argument("--only", default="", metavar="REGEX", help="only the checks whose names match")
        given = parser.parse_args(arguments)
        self.url, self.model, self.pid = given.url.rstrip("/"), given.model, given.pid
        return given

    def main(self, prepare=None):
        """Runs the checks and exits with 1 if any failed. `prepare` is called once the arguments are known."""
        given = self.parse()
        if prepare:
            prepare()
        failed = 0
        for name, function in self.checks:
            if re.search(given.only, name):
                failed += not self.run(name, function)
        sys.exit(1 if failed else 0)

    def run(self, name, function):
        start = time.monotonic()
        try:
            function()
        except Skip as why:
            print(f"skipped: {self.name}: {name}: {why}", flush=True)
        except Exception as error:  # whatever a client raises is the finding
            print(f"FAIL {self.name}: {name}\n{indent(explain(error))}", flush=True)
            return False
        else:
            print(f"ok   {self.name}: {name} ({time.monotonic() - start:.2f} s)", flush=True)
        return True


def explain(error):
    """The error, and the lines of the suite that led to it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    places = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {frame.line}" for frame in frames[-3:]]
    return "\n".join([*places, f"{type(error).__name__}: {str(error)[:6000]}"])


def indent(text):
    return "\n".join("     " + line for line in text.splitlines())


def expect(condition, *facts):
    """Raises with the facts unless the condition holds."""
    if not condition:
        raise AssertionError(" ".join(repr(fact) for fact in facts) or "the condition does not hold")


def equal(have, want, *facts):
    """Raises unless both are equal."""
    expect(have == want, f"have {have!r}, want {want!r}", *facts)


def each(cases, function):
    """Tries all cases, `function(*case)`, and raises with all that failed: one odd answer hides no other."""
    failures = []
    for case in cases:
        try:
            function(*case)
        except AssertionError as error:
            failures.append(str(error)[:400])
    if failures:
        raise AssertionError("\n".join([f"{len(failures)} cases:", *failures[:20]]))


def raises(kind, function, *arguments, **named):
    """Calls a function that has to raise an error of this kind, and gives the error."""
    try:
        result = function(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised; the answer is {result!r}"[:1500])


# A tool whose arguments are few enough that even a model of noise comes to an end with them.
CITIES = ["Oslo", "Lima", "Rome"]
WEATHER_PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": CITIES},
        "days": {"type": "integer", "minimum": 1, "maximum": 5},
        "metric": {"type": "boolean"},
    },
    "required": ["city", "days", "metric"],
    "additionalProperties": False,
}
CLOCK_PARAMETERS = {
    "type": "object",
    "properties": {"zone": {"type": "string", "enum": ["UTC", "CET"]}},
    "required": ["zone"],
    "additionalProperties": False,
}


def is_weather(arguments):
    """Whether parsed arguments are what `WEATHER_PARAMETERS` describes."""
    return (
        isinstance(arguments, dict)
        and set(arguments) == {"city", "days", "metric"}
        and arguments["city"] in CITIES
        and type(arguments["days"]) is int
        and 1 <= arguments["days"] <= 5
        and type(arguments["metric"]) is bool
    )


# A schema with every kind of value in it, each of bounded length.
CARD_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "suit": {"enum": ["clubs", "hearts"]},
        "rank": {"type": "integer", "minimum": 2, "maximum": 10},
        "marks": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        "owner": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/owner"}]},
    },
    "required": ["name", "suit", "rank", "marks", "owner"],
    "additionalProperties": False,
    "$defs": {
        "owner": {
            "type": "object",
            "properties": {"id": {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": ["id"],
            "additionalProperties": False,
        }
    },
}


# Tokens that hold any card, byte by byte: 200 for keys and values, the name all in escapes, and about 30 places for space,
# each of a line break and an indent of up to 20.
CARD_TOKENS = 1000


def is_card(card):
    """Whether a parsed value is what `CARD_SCHEMA` describes."""
    owner = card.get("owner")
    return (
        set(card) == set(CARD_SCHEMA["required"])
        and isinstance(card["name"], str)
        and len(card["name"]) <= 8
        and card["suit"] in ("clubs", "hearts")
        and type(card["rank"]) is int
        and 2 <= card["rank"] <= 10
        and 1 <= len(card["marks"]) <= 3
        and all(type(mark) is bool for mark in card["marks"])
        and (owner is None or (set(owner) == {"id"} and 0 <= owner["id"] <= 99))
    )


def check_troika(troika, header=None, writes=True):
    """Holds what an answer tells of its work to itself: the object `troika`, and the header `X-Troika-Placement`."""
    spans = troika["placement"]
    phases = {span["phase"] for span in spans}
    equal(phases, {"prefill", "decode"} if writes else {"prefill"}, troika)
    if header is not None:
        # A stream's head is written before its end is known.
        told = dict(part.split("=") for part in header.split(", "))
        equal(told, {span["phase"]: span["device"] for span in spans}, header)
    expect(all(span["tokens"] > 0 and span["device_ms"] > 0 for span in spans), spans)
    check_joules(troika)
    expect(troika["class"] in ("interactive", "agent", "background", "batch"), troika)
    for name in ("queue_ms", "load_ms", "prefill_ms", "decode_ms", "moves", "replays"):
        expect(troika[name] >= 0, name, troika)
    expect(troika["prefill_tps"] is None or troika["prefill_tps"] > 0, troika)
    if writes:
        expect(troika["ttft_ms"] >= troika["queue_ms"], troika)
    expected = troika["expected"]
    expect(expected["total_ms"] >= expected["ttft_ms"] > 0, expected)
    expect(expected["joules"] is None or expected["joules"] >= 0, expected)
    expect(expected["spread"] >= 1, expected)


def check_joules(troika):
    """Joules are a number with a source, or `None` everywhere where neither a meter nor watts of the device are known."""
    parts, total, source = [span["joules"] for span in troika["placement"]], troika["joules"], troika["joules_source"]
    if source == "unknown":
        equal([total, *parts], [None] * (1 + len(parts)), troika)
    else:
        expect(source in ("estimated", "measured", "mixed"), troika)
        expect(total >= 0 and abs(sum(parts) - total) < 0.01, troika)


def cosine(a, b):
    """The cosine of the angle between two vectors."""
    return dot(a, b) / (dot(a, a) * dot(b, b)) ** 0.5


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))
