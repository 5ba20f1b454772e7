#!/usr/bin/env python3
"""Takes the guide's pictures of the page: `python pictures.py docs`."""

import io
import os
import pathlib
import sys
import time

from PIL import Image
from playwright.sync_api import sync_playwright

from fake import node
from stage import Stage

# Few colours: the pictures are of flat areas, and are kept in the repository.
COLOURS = 160


QUESTION = "How much light does the lamp of a lighthouse give, and how far is it seen?"
CODE = """def seen_from(height_m: float) -> float:
    \"\"\"How far the horizon is, in kilometres.\"\"\"
    return 3.57 * height_m**0.5
"""


def row(tag, *cells):
    aligned = [node(tag, it, align="right") if i else node(tag, it) for i, it in enumerate(cells)]
    return node("tr", *aligned)


ANSWER = [
    node("p", "Less than one thinks: a ", node("strong", "lens"), " gathers the light of a small lamp. What ends the view is the horizon."),
    node(
        "table",
        node("thead", row("th", "Height", "Seen from a ship", "Seen from the shore")),
        node("tbody", row("td", "20 m", "16 km", "18 km"), row("td", "40 m", "23 km", "25 km")),
    ),
    node("p", "The distance grows with the ", node("em", "root"), " of the height:"),
    node("pre", CODE, lang="python"),
]


def with_past(fake):
    """Some weeks of conversations, one of them with an answer to look at."""
    day = 86_400
    for ago, title in [(1.1, "Recipe with leeks"), (1.2, "Letter to the landlord"), (3, "Names for a cat"), (4, "Why is the sky blue?")]:
        fake.chat(title, ago * day, [("user", title), ("assistant", "So it is.")])
    chat = fake.chat("How far a lighthouse is seen", 60, [("user", QUESTION), ("assistant", "x", ANSWER)])
    chat["messages"][-1] |= {"ttft_s": 0.31, "tokens_per_second": 42.3, "usage": {"prompt_tokens": 24, "completion_tokens": 187}}
    again = dict(chat["messages"][-1], id="again")
    chat["messages"].append(again)
    chat["leaf"] = "again"


def shoot(page, path, full):
    picture = Image.open(io.BytesIO(page.screenshot(full_page=full))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def machine(page, stage, asks_why):
    page.goto(f"{stage.address}/#machine")
    page.wait_for_selector(".lane")
    time.sleep(1.2)
    if asks_why:
        page.click(".job >> nth=0")
        page.wait_for_selector("dialog[open] table")


def chat(page, stage, sets):
    page.goto(stage.address)
    page.click("#groups a >> text=lighthouse")
    page.wait_for_selector(".code")
    if sets:
        page.click("#tune")
    # The speed in the strip is that of some seconds.
    time.sleep(4.5)
    page.evaluate("document.activeElement.blur()")


def main(directory):
    stage = Stage()
    stage.past_s = 60
    with_past(stage.fake)
    stage.begin()
    executable = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for name, scheme, width, show, more in [
            ("page", "light", 1180, machine, False),
            ("page-dark", "dark", 1180, machine, True),
            ("chat", "light", 1180, chat, False),
            ("chat-dark", "dark", 1180, chat, True),
        ]:
            view = {"width": width, "height": 820}
            context = browser.new_context(viewport=view, color_scheme=scheme, reduced_motion="reduce")
            page = context.new_page()
            show(page, stage, more)
            shoot(page, directory / f"{name}.png", name == "page")
            context.close()
        browser.close()


main(pathlib.Path(sys.argv[1]))
