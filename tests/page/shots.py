"""Takes the pictures of the page for the guide: `python shots.py DIRECTORY`."""

import pathlib
import sys
import time

from playwright.sync_api import sync_playwright

from stage import Stage, fixture

CHROMIUM = "/usr/bin/chromium"


def main(directory):
    stage = Stage().begin()
    # The spark lines need their minute: it has passed already.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, width, height, scheme in [
            ("page-light", 1280, 900, "light"),
            ("page-dark", 1280, 900, "dark"),
            ("page-phone", 390, 844, "light"),
        ]:
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.on("console", lambda message: print(name, message.type, message.text))
            page.on("pageerror", lambda error: print(name, "ERROR", error))
            page.goto(stage.address)
            page.wait_for_selector(".lane")
            time.sleep(6)
            page.screenshot(path=directory / f"{name}.png", full_page=True)
            if name != "page-light":
                page.click(".job >> nth=0")
                page.wait_for_selector("table")
                time.sleep(0.3)
                page.screenshot(path=directory / f"{name}-why.png")
            page.close()
        stage.state = fixture("odd")
        page = browser.new_page(viewport={"width": 1100, "height": 800}, color_scheme="dark")
        page.goto(stage.address)
        page.wait_for_selector(".lane")
        time.sleep(1)
        page.screenshot(path=directory / "page-odd.png", full_page=True)
        stage.end()
        time.sleep(2)
        page.screenshot(path=directory / "page-gone.png")
        browser.close()


main(pathlib.Path(sys.argv[1]))
