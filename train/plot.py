"""Draws log.csv as loss.svg: held-out and training loss over tokens seen. Plain SVG, no library.

    python plot.py
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

HERE = Path(__file__).parent
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 48, 52
SERIES = [("val_loss", "held out", "#1f6feb", 2.2), ("train_loss", "training (with dropout)", "#d4731b", 1.4)]


def draw(log: Path, svg: Path) -> None:
    """Reads the log and writes the picture."""
    rows = list(csv.DictReader(log.open()))
    tokens = [int(r["tokens"]) / 1e6 for r in rows]
    losses = [float(r[key]) for r in rows for key, *_ in SERIES]
    x_max, y_min, y_max = max(tokens), math.floor(min(losses) * 2) / 2, math.ceil(max(losses) * 2) / 2
    x_step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if x_max / s <= 12)

    def x(value: float) -> float:
        return round(LEFT + value / x_max * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (y_max - value) / (y_max - y_min) * (HEIGHT - TOP - BOTTOM), 1)

    def text(px: float, py: float, words: str, anchor: str = "middle", extra: str = "") -> str:
        return f'<text x="{px}" y="{py}" text-anchor="{anchor}" {extra}>{words}</text>'

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="#24292f">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           text(LEFT, 24, "Story model: cross entropy, nats per token", "start", 'font-size="15"')]
    for i in range(int((y_max - y_min) * 2) + 1):
        value = y_min + i / 2
        out.append(f'<path d="M{LEFT} {y(value)}H{WIDTH - RIGHT}" stroke="#d8dee4"/>')
        out.append(text(LEFT - 8, y(value) + 4, f"{value:.1f}", "end"))
    for i in range(int(x_max / x_step) + 1):
        out.append(text(x(i * x_step), HEIGHT - BOTTOM + 20, f"{i * x_step:g}"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "million tokens seen"))
    for i, (key, name, color, width) in enumerate(SERIES):
        points = " ".join(f"{x(t)},{y(float(r[key]))}" for t, r in zip(tokens, rows))
        out.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{width}"/>')
        lowest = min(float(r[key]) for r in rows)
        out.append(f'<path d="M{WIDTH - 300} {TOP + 16 + i * 20}h24" stroke="{color}" stroke-width="{width}"/>')
        out.append(text(WIDTH - 268, TOP + 20 + i * 20, f"{name}, lowest {lowest:.3f}", "start"))
    svg.write_text("\n".join([*out, "</svg>", ""]))


if __name__ == "__main__":
    draw(HERE / "log.csv", HERE / "loss.svg")
