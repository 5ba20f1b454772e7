"""A conversation with a server that runs, as its reader would have it."""

from harness import OUT, eventually, opened

QUESTION = "Once upon a time"


def talk(browser, address, key=None):
    """Types a message, reads the answer as it comes, and finds both again after a reload."""
    address = address.rstrip("/")
    page = opened(browser.new_context(viewport={"width": 1180, "height": 820}), [], [])
    page.goto(f"{address}/")
    if key:
        page.fill("#key-input", key)
        page.keyboard.press("Enter")
    eventually(lambda: page.inner_text("#link") == "Live")
    eventually(lambda: page.inner_text("#picked") not in ("…", "No model"))
    lengths = watched(page)
    page.fill("#box", QUESTION)
    page.keyboard.press("Enter")
    answer = page.locator("article[data-role=assistant]").last
    answer.locator("[data-f=acts]").wait_for(timeout=120_000)
    text = answer.locator(".text").inner_text().strip()
    assert text, "the answer is empty"
    seen = page.evaluate(lengths)
    assert len(set(seen)) > 2, f"the answer did not come piece by piece: {seen}"
    took = answer.locator("[data-f=took]").inner_text()
    assert "tokens/s" in took, took
    page.screenshot(path=OUT / "live.png")
    asked = page.url
    assert "#chat/" in asked, asked
    page.reload()
    page.locator("article[data-role=assistant] .text").wait_for()
    eventually(lambda: page.locator("article[data-role=assistant] .text").inner_text().strip() == text)
    page.fill("#search", QUESTION.upper())
    eventually(lambda: page.locator("#groups a[aria-current]").count() == 1 and page.locator("#groups mark").count() > 0)
    page.screenshot(path=OUT / "live-again.png")
    assert page.complaints == [], page.complaints
    strange = [url for url in page.requests if not url.startswith(address)]
    assert strange == [], f"requests to others: {strange}"
    print(f"ok     {len(text)} characters in {len(set(seen))} pieces from {address}: {took}")
    page.context.close()


def watched(page):
    """Has the page note how long the answer is after each change; answers what tells that."""
    page.evaluate("""() => {
        window.lengths = [];
        new MutationObserver(() => {
            const all = document.querySelectorAll("article[data-role=assistant] .text");
            if (all.length) window.lengths.push(all[all.length - 1].textContent.length);
        }).observe(document.getElementById("messages"), { subtree: true, childList: true, characterData: true });
    }""")
    return "window.lengths"
