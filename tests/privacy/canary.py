"""A word that must not leave, and how it is looked for: in every encoding that a program might send it in."""

import base64
import codecs
import re

# Long enough not to be there by chance, in the alphabet that all encodings below can take.
STEM = "KanarienvogelNot4Export"
# What public requests carry: this one has to arrive, or nothing was tested.
PUBLIC_STEM = "SpatzMayTravel0verTheSea"


def base64_forms(word):
    """What base64 makes of the word, wherever it begins in what is encoded: the letters that do not depend on neighbours."""
    raw = word.encode()
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw)
        first, last = (shift * 8 + 5) // 6, (shift + len(raw)) * 8 // 6
        yield whole[first:last]
        yield whole[first:last].replace(b"+", b"-").replace(b"/", b"_")


def forms(word):
    """The word as bytes in every encoding, lower case where case says nothing."""
    raw = word.encode()
    found = {
        "text": raw,
        "backwards": raw[::-1],
        "rot13": codecs.encode(word, "rot13").encode(),
        "hexadecimal": raw.hex().encode(),
        "percent": "".join(f"%{byte:02x}" for byte in raw).encode(),
        "escaped JSON": "".join(f"\\u{byte:04x}" for byte in raw).encode(),
        "list of bytes": ",".join(map(str, raw)).encode(),
        "spaced list of bytes": ", ".join(map(str, raw)).encode(),
        "UTF-16": word.encode("utf-16-le"),
        "UTF-32": word.encode("utf-32-le"),
    }
    found = {name: form.lower() for name, form in found.items()}
    # Upper and lower case are different letters here.
    kept = {f"base64, form {number}": form for number, form in enumerate(base64_forms(word))}
    return found, kept


class Detector:
    """Looks for one word in bytes."""

    def __init__(self, word=STEM):
        lower, kept = forms(word)
        self.lower = {name: re.compile(re.escape(form)) for name, form in lower.items()}
        self.kept = {name: re.compile(re.escape(form)) for name, form in kept.items()}

    def find(self, data):
        """The names of the encodings in which the word is there, with how often."""
        lowered = data.lower()
        found = {name: len(form.findall(lowered)) for name, form in self.lower.items()}
        found |= {name: len(form.findall(data)) for name, form in self.kept.items()}
        return {name: times for name, times in found.items() if times}


def check_itself():
    """A detector that finds nothing proves nothing: each encoding is found in a haystack, and a clean one is clean."""
    detector = Detector()
    lower, kept = forms(STEM)
    for name, form in (lower | kept).items():
        assert name in detector.find(b"x" * 7 + form + b"y" * 5), name
    for shift in range(9):
        hidden = base64.b64encode(b"{" * shift + STEM.encode() + b"some more")
        assert detector.find(hidden), f"base64 behind {shift} bytes"
    assert not detector.find(PUBLIC_STEM.encode() * 3)
