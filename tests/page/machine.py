"""The view of the machine: `#machine`."""

import time

from harness import eventually, focused, view
from stage import Stage, fixture

check = view("machine", ".lane")


@check
def shows_what_the_state_says(page, stage):
    assert page.locator(".lane").count() == 3
    gpu = page.locator(".lane", has_text="Intel Arc 140V")
    assert gpu.locator(".job").count() == 3
    for text in ["gpu0", "✓ ready", "estimated", "qwen3-8b", "6.1 GiB", "cache 83 %", "mistral-small", "loading"]:
        assert text in gpu.inner_text(), text
    assert "measured" in page.locator(".lane", has_text="258V").inner_text()
    assert "oldest waits 12.8 s, 2 at work" in page.inner_text("#queues")
    assert "battery, 71 %" in page.inner_text("#facts") and "61.3 of 150 Wh" in page.inner_text("#facts")
    assert "other programs 9.2 GiB" in page.get_attribute(".stack", "aria-label")
    eventually(lambda: "–" not in gpu.locator("[data-f=writing]").inner_text())


@check
def takes_nothing_for_markup(page, stage):
    stage.state = fixture("odd")
    page.wait_for_selector("text=<img src=x")
    assert page.locator("#machine img").count() == 0
    assert "\u202e" not in page.inner_text("body") and "\x1b" not in page.inner_text("body")
    assert "answered the known question wrongly" in page.inner_text(".lane[data-state=lost]")
    assert "5.0 GiB more is taken" in page.inner_text(".pool")
    page.locator(".job").first.click()
    page.wait_for_selector("dialog[open]")
    refused = page.evaluate("try { document.body.innerHTML = '<b>x</b>'; 'done' } catch (error) { error.name }")
    assert refused == "TypeError", "the browser takes text for markup"
    page.complaints.clear()


@check
def is_used_by_keyboard(page, stage):
    page.locator(".job").first.focus()
    name = focused(page)
    assert name == "404"
    time.sleep(1.3)
    assert focused(page) == name, "new states take the focus away"
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] table")
    text = page.inner_text("dialog")
    for want in ["Why job 404 is on cpu0", "Its usual device was full.", "1.30 times the winner's cost", "taken", "npu0 has no form"]:
        assert want in text, want
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert focused(page) == name, "the focus does not come back"


@check
def tells_what_a_request_took(page, stage):
    page.fill("#lookup-input", " done ")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] table")
    text = page.inner_text("dialog")
    for want in ["Request done", "Job 404, embeddinggemma, done", "3.1 s", "1.10 times", "partly measured", "moved or gave way once"]:
        assert want in text, want
    page.keyboard.press("Escape")
    assert focused(page) == "lookup-input", "the focus does not come back"


@check
def tells_what_was_spent_here_and_elsewhere(page, stage):
    page.wait_for_selector("#spent-sides article >> nth=1")
    here, away = page.locator("#spent-sides article").all_inner_texts()
    assert "12.4 kWh, 3.72 EUR" in here and "since 2026-11-03" in here, here
    for want in ["1.86 EUR, 1 of unknown cost of 20", "41 requests (1 without an end)", "far: 38 requests, 1.86 EUR"]:
        assert want in away, away
    assert not page.locator("#spent-table table").is_visible()
    page.locator("#spent-last summary").focus()
    page.keyboard.press("Enter")
    table = page.locator("#spent-table table")
    assert table.locator("tbody tr").count() == 2
    for want in ["2026-11-21 09:15:02", "no end yet", "answered", "0.00231 EUR", "long prompts <b>"]:
        assert want in table.inner_text(), want


@check
def switches_the_policy(page, stage):
    page.locator("input[value=balanced]").focus()
    page.keyboard.press("ArrowRight")
    eventually(lambda: stage.policies == ["frugal"])
    assert "joules" in page.inner_text("#policy-says")
    eventually(lambda: page.inner_text("#news") == "The policy is frugal")
    stage.policy_error = "this API key has no scope `admin`"
    page.locator("label", has_text="Fastest").click()
    eventually(lambda: "stays as it was: this API key has no scope" in page.inner_text("#policy-says"))
    eventually(lambda: page.locator("input[value=frugal]").is_checked())
    page.complaints.clear()


@check
def comes_back_when_the_server_does(page, stage):
    port = stage.server_address[1]
    stage.end()
    eventually(lambda: page.inner_text("#link") == "Disconnected")
    assert "how it was" in page.inner_text("#notice") and page.locator(".lane").count() == 3
    again = Stage(port)
    again.state = fixture("empty")
    again.begin()
    eventually(lambda: page.inner_text("#link") == "Live")
    assert page.locator("#notice").is_hidden()
    assert "probing" in page.inner_text(".lane") and "No job, and no model" in page.inner_text(".lane")
    again.end()
    page.complaints.clear()


@check
def asks_for_a_key_and_forgets_it(page, stage):
    stage.key = "tk-1-right"
    page.reload()
    page.wait_for_selector("#key:visible")
    assert page.inner_text("#key-wrong") == "" and focused(page) == "key-input"
    page.keyboard.type("tk-1-wrong")
    page.keyboard.press("Enter")
    eventually(lambda: "unknown" in page.inner_text("#key-wrong"))
    page.keyboard.type("tk-1-right")
    page.keyboard.press("Enter")
    page.wait_for_selector(".lane")
    assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie, location.href]")[:3] == [1, 0, ""]
    assert "tk-" not in page.url
    page.reload()
    page.wait_for_selector(".lane")
    page.complaints.clear()


@check
def fits_a_phone(page, stage):
    for width in [320, 390, 768]:
        page.set_viewport_size({"width": width, "height": 800})
        for name in ["busy", "odd"]:
            stage.state = fixture(name)
            page.wait_for_selector("text=258V" if name == "busy" else "text=RTX 3090")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{name} is {wide} wide on {width}"


@check
def tells_all_by_name(page, stage):
    page.locator(".job").first.click()
    page.wait_for_selector("dialog[open] table")
    unnamed = page.evaluate("""[...document.querySelectorAll('button, input, [role=img], section:not([hidden]), dialog')].filter(
        (node) => !(node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.textContent.trim()
            || node.labels?.length)).map((node) => node.outerHTML)""")
    assert unnamed == [], unnamed
