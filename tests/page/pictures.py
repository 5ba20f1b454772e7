#!/usr/bin/env python3
"""Takes the guide's pictures of the page: `python pictures.py ../../docs`."""

import io
import os
import pathlib
import sys
import time

from PIL import Image
from playwright.sync_api import sync_playwright

from stage import Stage

# Few colours: the pictures are of flat areas, and are kept in the repository.
COLOURS = 160


def main(directory):
    stage = Stage()
    stage.past_s = 60
    stage.begin()
    executable = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for name, scheme, width, asks_why in [
            ("page", "light", 1180, False),
            ("page-dark", "dark", 1180, True),
            ("page-phone", "light", 390, False),
        ]:
            context = browser.new_context(
                viewport={"width": width, "height": 820}, color_scheme=scheme, reduced_motion="reduce"
            )
            page = context.new_page()
            page.goto(stage.address)
            page.wait_for_selector(".lane")
            time.sleep(1.2)
            if asks_why:
                page.click(".job >> nth=0")
                page.wait_for_selector("dialog[open] table")
            shot = page.screenshot(full_page=not asks_why)
            picture = Image.open(io.BytesIO(shot)).convert("RGB")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(directory / f"{name}.png", optimize=True)
            context.close()
        browser.close()


main(pathlib.Path(sys.argv[1]))
