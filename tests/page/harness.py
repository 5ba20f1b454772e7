"""What the checks have in common: a browser, and a stage for each of them."""

import os
import pathlib
import time

from stage import Stage

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Pictures and what is fetched: kept out of the repository.
OUT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "page"
CHECKS = []


def view(name, ready):
    """For checks of this view, which begin when `ready` is there."""

    def check(function):
        CHECKS.append((function, name, ready))
        return function

    return check


def eventually(what, seconds=20):
    """Waits until `what()` is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come to that in time")


def focused(page):
    """What has the focus: its label, its number or what it stands for in a list."""
    return page.evaluate("""(({ activeElement: it }) =>
        it.getAttribute("aria-label") ?? (it.id || it.closest("[data-key]")?.dataset.key))(document)""")


def launch(playwright):
    executable = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    return playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])


def opened(context, complaints, requests):
    """A page that remembers its complaints, and every address that it asks for."""
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(f"{error} {error.stack}"))
    context.on("request", lambda request: requests.append(request.url))
    page.complaints, page.requests = complaints, requests
    return page


def run(browser, function, name, ready):
    """Runs a check on a stage of its own; answers why it failed, if it did."""
    stage = Stage().begin()
    prepare = getattr(function, "prepare", None)
    if prepare:
        prepare(stage)
    context = browser.new_context(reduced_motion="reduce", accept_downloads=True, viewport={"width": 1180, "height": 820})
    page = opened(context, [], [])
    try:
        page.goto(f"{stage.address}/#{name}")
        page.wait_for_selector(ready)
        told = function(page, stage)
        assert page.complaints == [], page.complaints
        strange = [url for url in page.requests if not url.startswith((stage.address, "blob:"))]
        assert strange == [], f"requests to others: {strange}"
        return None, told
    except Exception as error:
        page.screenshot(path=OUT / f"failed-{function.__name__}.png")
        return error, None
    finally:
        context.close()
        if not stage.ending.is_set():
            stage.end()
