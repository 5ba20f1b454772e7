"""Metrics of several replicas as one text: each sample gets a label with its replica's name."""

from __future__ import annotations

from collections.abc import Mapping


def merge(texts: Mapping[str, str]) -> str:
    """Joins texts in Prometheus' format. Samples of a metric stand together, below its description, as the format wants."""
    described: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for replica, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith("#"):
                words = line.split(" ", 3)
                family = words[2] if len(words) > 2 else family
                known = described.setdefault(family, [])
                if line not in known:
                    known.append(line)
            elif line.strip():
                samples.setdefault(family, []).append(_labelled(line, replica))
    lines = [line for family in described for line in (*described[family], *samples.get(family, ()))]
    return "\n".join([*samples.get("", ()), *lines, ""])


def _labelled(sample: str, replica: str) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{replica="{replica}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{replica="{replica}"}} {value}'
