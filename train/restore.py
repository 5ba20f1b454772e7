"""Gives the lower-cased text back its sentences, names and quotation marks.

What it is: rules, a list of names (names.txt) and what each story says about itself ("a dog named spot").
What it is not: a true-caser for any other text; the rules are for children's stories in English.
"""

from __future__ import annotations

import re
from pathlib import Path

# UTF-8 read as Windows-1252 and then lower-cased. The closing quote lost its last character, hence its place at the end.
_MOJIBAKE = [
    ("â€œ", '"'), ("â€™", "'"), ("â€˜", "'"), ("â€“", "-"), ("â€”", "-"), ("â€¦", "..."), ("â«", '"'), ("â»", '"'), ("â€", '"'),
]

_KIN = {"mom", "mommy", "mum", "mummy", "dad", "daddy", "mama", "papa", "momma", "grandma", "grandpa", "granny", "nana", "auntie"}
_OWNERS = {"a", "an", "the", "his", "her", "my", "your", "their", "our", "its", "this", "that", "these", "those", "some", "every", "each",
           "another", "no", "one", "two", "three", "other", "little", "big", "new", "dear", "old", "whose", "many", "more", "any", "red"}
_SPEECH = {"said", "asked", "cried", "shouted", "replied", "exclaimed", "yelled", "answered", "called", "whispered", "screamed", "says",
           "asks", "laughed", "sang", "added", "thought", "explained", "squeaked", "barked", "roared", "begged", "suggested", "agreed",
           "repeated", "announced", "wondered", "giggled", "say", "ask", "told", "continued", "responded", "declared", "sighed", "chirped"}
_NOT_NAMES = {"the", "a", "an", "her", "his", "him", "it", "them", "after", "true", "colorful", "dependable", "eager", "silly", "tiny",
              "green", "youth", "rhythm", "furry", "trouble", "speed", "as", "by", "and", "in", "for", "my", "your", "their", "that"}
_TITLES = {"mr", "mrs", "ms", "dr"}
_FIXED = {"i": "I", "i'm": "I'm", "i'll": "I'll", "i've": "I've", "i'd": "I'd", "tv": "TV"}

_TOKEN = re.compile(r"[a-z0-9]+(?:'[a-z]+)*|\s+|.", re.DOTALL)
_INTRODUCED = re.compile(r"\b(named|called|name was|name is|names were) ([a-z]+)(?: and ([a-z]+))?\b")


def load_names(path: Path) -> tuple[set[str], set[str]]:
    """Reads names.txt: (always names, names only where a story introduces them)."""
    always: set[str] = set()
    sometimes: set[str] = set()
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        (sometimes if line.startswith("?") else always).update(line.lstrip("?").split())
    return always, sometimes - always


def mend(text: str) -> str:
    """Repairs the encoding, the spaces and the blank lines; case stays as it is."""
    for wrong, right in _MOJIBAKE:
        text = text.replace(wrong, right)
    text = re.sub(r"(?<=[a-z])\"(?=(?:t|s|m|re|ll|ve|d)\b)", "'", text)  # don"t, from a damaged apostrophe
    text = re.sub(r"(?<!\w)''|''(?!\w)", '"', text)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" *\n *", "\n", text)
    text = re.sub(r" ([.,!?;:])(?=\s)", r"\1", text)
    text = re.sub(r",(?=[a-z])", ", ", text)
    text = re.sub(r"(?<=[a-z][.!?])(?=[a-z]{2,})", " ", text)
    return re.sub(r"\n{3,}", "\n\n", text)


def _story_names(story: str, always: set[str], sometimes: set[str]) -> set[str]:
    """The words that are names in this story."""
    names = set(always)
    for how, first, second in _INTRODUCED.findall(story):
        for word in (first, second):
            known = word in sometimes or word in always
            if word and word not in _NOT_NAMES and (known or (how == "named" and word == first)):
                names.add(word)
    for word in sometimes - names:
        # "said spot", "spot's", "spot and lily" at the start of a sentence speak for a name as well.
        if re.search(rf"(?:^|[.!?\"\n] ?){word} (?:said|was|and|asked|ran|had|wanted|loved|liked|felt|looked|saw)\b", story) \
                and not re.search(rf"\b(?:a|an|the|his|her|my|your|their|some|it) (?:\w+ )?{word}\b", story):
            names.add(word)
    return names


def _is_kin_name(words: list[str]) -> bool:
    """Whether "mom" after `words` is what she is called, and not "his mom"."""
    before = words[-3:]
    if len(before) >= 2 and before[-1] == "and" and before[-2] in _KIN:
        before = before[:-2]  # "her mom and dad" is lower case throughout, "mom and dad" is not
    return not any(w in _OWNERS or w.endswith("'s") for w in before[-2:])


def _speech_follows(rest: list[str]) -> bool:
    """Whether what follows a closing quotation mark only says who spoke."""
    words: list[str] = []
    for token in rest[:12]:
        if token in ".!?\n\"":
            break
        if token[0].isalpha():
            words.append(token)
    return any(w in _SPEECH for w in words[:4])


def restore_case(story: str, always: set[str], sometimes: set[str]) -> str:
    """Gives one mended story its capitals."""
    names = _story_names(story, always, sometimes)
    tokens = _TOKEN.findall(story)
    out: list[str] = []
    words: list[str] = []  # of the sentence so far
    start, open_quote, after = True, False, ""  # `after`: the last mark that is not a space
    for i, token in enumerate(tokens):
        if token.isspace():
            start = start or "\n" in token
            if "\n\n" in token:
                open_quote = False
            out.append(token)
            continue
        if token == '"':
            following = tokens[i + 1] if i + 1 < len(tokens) else " "
            open_quote = not following.isspace() and (i == 0 or tokens[i - 1].isspace()) if not open_quote else False
            if open_quote:
                # Speech follows a comma, a colon or a full stop; a quoted word ("the sign said "stop"") does not always.
                start = start or after in {",", ":", "", '"', "-"}
            elif after in {"!", "?"}:
                start = not _speech_follows(tokens[i + 1:])
            elif after == ",":
                start = False
            if start:
                words = []
            out.append(token)
            after = '"'
            continue
        if token[0].isalnum():
            root = re.sub(r"'(s|ll|d|ve|re)$", "", token)
            titled = len(words) > 0 and words[-1] in _TITLES and after == "."
            capital = start or titled or root in names and not (words and words[-1] in _OWNERS and root in sometimes) \
                or root in _KIN and _is_kin_name(words)
            fixed = _FIXED.get(token)
            out.append(fixed or (token[0].upper() + token[1:] if capital else token))
            words.append(token)
            start, after = False, "word"
            continue
        if token in ".!?":
            title = token == "." and words and words[-1] in _TITLES
            ellipsis = token == "." and after == "." and i + 1 < len(tokens) and tokens[i + 1] != "\n"
            start = not title and not ellipsis
            if start:
                words = []
        out.append(token)
        after = token
    return "".join(out)
