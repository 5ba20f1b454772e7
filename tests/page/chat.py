"""The view of conversations: `#chat`."""

import json
import re
import time

from fake import MODELS, STORIES, node
from harness import OUT, eventually, focused, view

check = view("chat", "#link[data-state=live]")

ANSWER = "article[data-role=assistant]"
QUESTION = "article[data-role=user]"
FOX = "Once upon a time there was a fox who lived in a lighthouse."


def ask(page, text):
    page.fill("#box", text)
    page.keyboard.press("Enter")


def done(page, count=1):
    """Waits until so many answers are shown, all of them complete."""
    page.locator(f"{ANSWER} [data-f=again]").nth(count - 1).wait_for()
    eventually(lambda: page.inner_text("#send") == "Send")


def with_past(stage):
    stage.fake.chat("Rainbows", 90_000, [("user", "How does a rainbow come to be?"), ("assistant", "Light is bent in drops.")])
    stage.fake.chat("Würzburg in spring", 30 * 86_400, [("user", "What to see?"), ("assistant", "The *résidence* first.")])
    stage.fake.chat("Shopping", 0, [("user", "Milk & bread"), ("assistant", "Noted.")])


def prepared(how):
    def mark(function):
        function.prepare = how
        return function

    return mark


@check
def answers_as_the_words_come(page, stage):
    stage.fake.pace_s = 0.03
    assert page.locator("#examples button").count() == 3 and page.locator("#empty").is_visible()
    ask(page, "Tell me of a **fox**")
    eventually(lambda: "Once upon" in page.inner_text("#messages"))
    assert "came home" not in page.inner_text("#messages"), "it came all at once"
    assert page.locator("#empty").is_hidden()
    done(page)
    answer = page.inner_text(ANSWER)
    assert FOX in answer and "tokens/s" in answer and "first token after 230 ms" in answer and "24 tokens" in answer, answer
    assert page.locator(f"{ANSWER} strong").inner_text() == "fox"
    assert page.locator(f"{QUESTION} strong").inner_text() == "fox"
    assert stage.fake.asked[0]["content"] == "Tell me of a **fox**" and stage.fake.asked[0]["parent"] is None
    eventually(lambda: page.locator("#groups a[aria-current]").inner_text() == "Tell me of a **fox**")
    eventually(lambda: page.inner_text("#news").startswith("Answered: Once upon"))
    ask(page, "And then?")
    done(page, 2)
    chat = next(iter(stage.fake.chats.values()))
    assert stage.fake.asked[1]["parent"] == chat["messages"][1]["id"]
    page.screenshot(path=OUT / "chat.png")
    page.reload()
    done(page, 2)
    assert "And then?" in page.inner_text("#messages") and page.title().startswith("Tell me of")


@check
def stops_and_keeps_what_was_written(page, stage):
    stage.fake.pace_s = 0.15
    for how in ["key", "button"]:
        ask(page, "Go on for long")
        eventually(lambda: "Once upon" in page.locator(f"{ANSWER} .text").last.inner_text())
        page.keyboard.press("Escape") if how == "key" else page.click("#send")
        eventually(lambda: "stopped" in page.locator(ANSWER).last.inner_text())
        assert "came home" not in page.locator(ANSWER).last.inner_text() and focused(page) == "box"
        page.click("#new")
    chats = list(stage.fake.chats.values())
    eventually(lambda: all(chat["messages"][-1]["finish"] == "stopped" for chat in chats))


@check
def answers_again_and_shows_each(page, stage):
    ask(page, "A story")
    done(page)
    stage.fake.text = "Another one."
    page.click(f"{ANSWER} [data-f=again]")
    eventually(lambda: "Another one." in page.inner_text(ANSWER))
    done(page)
    assert "2/2" in page.inner_text(ANSWER) and "content" not in stage.fake.asked[1]
    page.click(f"{ANSWER} [data-f=before]")
    eventually(lambda: FOX in page.inner_text(ANSWER) and "1/2" in page.inner_text(ANSWER))
    assert focused(page) == "The version after", focused(page)
    chat = next(iter(stage.fake.chats.values()))
    eventually(lambda: chat["leaf"] == chat["messages"][1]["id"])


@check
def edits_a_question(page, stage):
    ask(page, "First")
    done(page)
    ask(page, "Second")
    done(page, 2)
    page.keyboard.press("ArrowUp")
    assert focused(page) == "Your message, changed"
    page.keyboard.press("Escape")
    assert page.locator(".editor").count() == 0
    page.locator(f"{QUESTION} [data-f=edit]").first.click()
    assert page.input_value(".editor textarea") == "First"
    page.fill(".editor textarea", "First, said better")
    page.keyboard.press("Enter")
    eventually(lambda: "First, said better" in page.inner_text("#messages"))
    done(page)
    assert page.locator("article").count() == 2 and "2/2" in page.inner_text(QUESTION)
    page.click(f"{QUESTION} [data-f=before]")
    assert page.locator("article").count() == 4 and "Second" in page.inner_text("#messages")


@check
@prepared(with_past)
def finds_by_any_word(page, stage):
    eventually(lambda: page.locator("#groups li").count() == 3)
    assert page.locator("#groups h3").all_inner_texts()[:2] == ["Today", "Yesterday"]
    page.keyboard.press("Control+k")
    assert focused(page) == "search"
    page.keyboard.type("RESIDENCE")
    eventually(lambda: page.locator("#groups li").count() == 1)
    assert page.inner_text("#groups [data-f=snippet] mark") == "résidence"
    page.fill("#search", "wurz")
    eventually(lambda: page.locator("#groups a mark").count() == 1 and page.inner_text("#groups a mark") == "Würz")
    page.fill("#search", "nowhere to be found")
    eventually(lambda: "Nothing found" in page.inner_text("#list-says"))
    page.fill("#search", "")
    eventually(lambda: page.locator("#groups li").count() == 3)
    page.click("#groups a >> text=Rainbows")
    eventually(lambda: "bent in drops" in page.inner_text("#messages"))
    page.go_back()
    eventually(lambda: page.locator("#empty").is_visible())


def menu(page, title, item):
    row = page.locator("#groups li", has_text=title)
    row.hover()
    row.locator("[data-f=more]").click()
    page.click(f".menu >> text={item}")


@check
@prepared(with_past)
def renames_exports_and_deletes(page, stage):
    menu(page, "Shopping", "Rename")
    page.keyboard.type("Milk")
    page.keyboard.press("Enter")
    eventually(lambda: "Milk" in [it["title"] for it in stage.fake.chats.values()])
    with page.expect_download() as download:
        menu(page, "Rainbows", "Export as Markdown")
    assert download.value.suggested_filename == "Rainbows.md"
    assert open(download.value.path()).read() == "# Rainbows\n"
    with page.expect_download() as download:
        menu(page, "Rainbows", "Export as JSON")
    assert json.load(open(download.value.path()))["title"] == "Rainbows"
    menu(page, "Rainbows", "Delete")
    eventually(lambda: page.locator("#groups li").count() == 2)
    page.click(".toast >> text=Undo")
    eventually(lambda: page.locator("#groups li").count() == 3)
    assert len(stage.fake.chats) == 3
    menu(page, "Rainbows", "Delete")
    page.reload()
    eventually(lambda: len(stage.fake.chats) == 2, 12)
    page.click("#all")
    page.click(".menu >> text=Delete all")
    page.click("#sure [value=no]")
    assert len(stage.fake.chats) == 2
    page.click("#all")
    page.click(".menu >> text=Delete all")
    page.click("#sure [value=yes]")
    eventually(lambda: not stage.fake.chats and page.locator("#groups li").count() == 0)


@check
def is_as_it_is_set(page, stage):
    page.click("#tune")
    assert page.locator("#params").is_visible()
    page.fill("[name=system]", "Be brief.")
    page.fill("[name=temperature]", "0.2")
    page.fill("[name=seed]", "7")
    page.select_option("[name=think]", "false")
    page.click("#params-close")
    assert focused(page) == "tune" and "(4)" in page.inner_text("#tune")
    page.click("#picker")
    assert "✕ does not fit" in page.inner_text(".menu") and "41.5 GiB" in page.inner_text(".menu")
    page.click(".menu >> text=llama3.3-70b")
    ask(page, "Hello")
    done(page)
    want = {"system": "Be brief.", "temperature": 0.2, "seed": 7, "think": False}
    assert stage.fake.asked[0]["params"] == want and stage.fake.asked[0]["model"] == "llama3.3-70b"
    assert "llama3.3-70b" in page.inner_text(ANSWER)
    page.click("#new")
    assert page.inner_text("#tune") == "Parameters"


@check
def shows_its_thoughts_when_asked(page, stage):
    stage.fake.script = [("reasoning", {"text": "Foxes "}), ("reasoning", {"text": "are red."}), ("pause", 1)]
    stage.fake.script += [("blocks", {"from": 0, "blocks": [node("p", "Red.")]})]
    stage.fake.text = "Red."
    ask(page, "What colour?")
    eventually(lambda: "Thinking" in page.inner_text(ANSWER))
    assert "are red" not in page.inner_text(ANSWER)
    done(page)
    page.click("summary:visible")
    assert "Foxes are red." in page.inner_text(ANSWER)


def bare(stage):
    stage.fake.models = [STORIES]


@check
@prepared(bare)
def gets_a_model(page, stage):
    page.locator("#get-card").wait_for()
    stage.fake.look_error = "this server is set to stay offline"
    page.fill("#get-from", "hf:owner/none")
    page.keyboard.press("Enter")
    eventually(lambda: "stay offline" in page.inner_text("#get-says"))
    stage.fake.look_error = None
    page.complaints.clear()
    page.click("text=Qwen3 0.6B")
    page.locator("#found").wait_for()
    for want in ["Qwen3-0.6B-GGUF", "609.8 MiB", "apache-2.0", "✓ Fits", "about 61.0 tokens/s on gpu0", "250.0 GiB free"]:
        assert want in page.inner_text("#found"), want
    page.select_option("#found-choice", "Q4_K_M")
    eventually(lambda: "378.3 MiB" in page.inner_text("#found") and page.inner_text("#get-it") == "Get it (378.3 MiB)")
    stage.fake.pull_s = 6
    page.click("#get-it")
    eventually(lambda: re.search(r"of 609\.8 MiB · 52\.5 MiB/s · .* left", page.inner_text("#pulls")))
    page.screenshot(path=OUT / "get.png")
    page.click("#pulls >> text=Stop")
    eventually(lambda: "Stopped" in page.inner_text("#pulls"))
    stage.fake.pull_s, stage.fake.pull_error = 1, "the server sent other bytes than it promised"
    page.click("#pulls >> text=Go on")
    eventually(lambda: "other bytes" in page.inner_text("#pulls"))
    stage.fake.pull_error = None
    page.click("#pulls >> text=Go on")
    eventually(lambda: page.inner_text("#picked") == "qwen3-0.6b-gguf")
    assert page.locator("#get-card").is_hidden()
    page.click("#picker")
    page.click(".menu >> text=Get a model")
    assert page.locator("#get-dialog #get-from").is_visible() and focused(page) == "get-from"


@check
@prepared(with_past)
def is_used_by_keys(page, stage):
    page.focus("#new")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    page.click("#groups a >> text=Rainbows")
    eventually(lambda: "bent in drops" in page.inner_text("#messages"))
    page.keyboard.press("Control+Shift+O")
    assert page.locator("#empty").is_visible() and focused(page) == "box"
    page.keyboard.type("One")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two?")
    assert page.input_value("#box") == "One\ntwo?" and not stage.fake.asked
    page.keyboard.press("Enter")
    done(page)
    assert stage.fake.asked[0]["content"] == "One\ntwo?"
    page.keyboard.press("ArrowUp")
    assert page.input_value(".editor textarea") == "One\ntwo?"
    page.keyboard.press("Escape")
    page.focus("#picker")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert focused(page) == "picker" and page.inner_text("#picked") == "llama3.3-70b"


@check
@prepared(with_past)
def fits_phones_too(page, stage):
    for width in [320, 390, 768]:
        page.set_viewport_size({"width": width, "height": 700})
        page.reload()
        page.wait_for_selector("#link[data-state=live]")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{wide} wide on {width}"
        assert not page.locator("#side").is_visible()
        page.click("#drawer")
        page.click("#groups a >> text=Rainbows")
        eventually(lambda: "bent in drops" in page.inner_text("#messages") and not page.locator("#side").is_visible())
        box = page.locator("#send").bounding_box()
        assert box["x"] + box["width"] <= width and box["y"] + box["height"] <= 700
        page.keyboard.press("Control+k")
        assert focused(page) == "search"
        page.keyboard.press("Escape")
        eventually(lambda: not page.locator("#side").is_visible())
        page.screenshot(path=OUT / f"phone-{width}.png")


HOSTILE = [
    node("script", "alert(1)"),
    node("p", "<img src=https://evil.example/a.png onerror=alert(1)>", node("img", src="https://evil.example/b.png")),
    node("p", node("a", "press me", href="javascript:alert(1)"), node("a", "data", href="data:text/html,x")),
    node("p", node("a", "fine", href="https://evil.example/c"), node("a", "mixed", href=" jAvAsCrIpT:alert(1)")),
    node("iframe", src="https://evil.example/d"),
    node("p", "styled", style="background:url(https://evil.example/e)", onclick="alert(1)", id="box"),
    node("constructor", "odd"),
    {"t": "pre", "lang": "<b>x</b>", "c": ["</pre><script>alert(1)</script>"]},
    node("table", node("thead", node("tr", node("th", "a", align="url(x)"))), node("tbody", node("tr", node("td", "b")))),
    None,
    7,
    {"t": "p"},
    "bare text",
]


def hostile(stage):
    deep = "end"
    for _ in range(400):
        deep = node("blockquote", deep)
    stage.hostile = [*HOSTILE, deep]
    title = "<img src=https://evil.example/t.png> \u202e"
    stage.chat = stage.fake.chat(title, 0, [("user", "<script>alert(1)</script>"), ("assistant", "x", stage.hostile)])


@check
@prepared(hostile)
def takes_nothing_of_a_model_for_markup(page, stage):
    page.on("dialog", lambda dialog: page.complaints.append(f"a dialog: {dialog.message}"))
    page.click("#groups a")
    eventually(lambda: "bare text" in page.inner_text("#messages") and "end" in page.inner_text("#messages"))
    stage.fake.script = [("blocks", {"from": 0, "blocks": stage.hostile}), ("text", {"text": "<svg onload=alert(1)>"})]
    ask(page, "again")
    done(page, 2)
    text = page.inner_text("#messages")
    for want in ["<img src=https://evil.example/a.png", "press me", "</pre><script>", "<svg onload=alert(1)>", "alert(1)"]:
        assert want in text, want
    assert page.locator("#messages :is(script, img, iframe, svg, [style], [onclick], #box)").count() == 0
    links = page.eval_on_selector_all("#messages a", "all => all.map((a) => [a.href, a.rel, a.target])")
    assert links == [["https://evil.example/c", "noopener noreferrer nofollow", "_blank"]] * 2, links
    time.sleep(0.5)


@check
def tells_what_went_wrong(page, stage):
    stage.fake.refuses = "the queue is full; try again in 3 s"
    ask(page, "Anybody there?")
    eventually(lambda: "queue is full" in page.inner_text("#trouble"))
    assert page.input_value("#box") == "Anybody there?" and page.locator("article").count() == 0
    page.complaints.clear()
    stage.fake.refuses = None
    stage.fake.script = [("text", {"text": "Half"}), ("error", {"message": "the device was lost", "kind": "server"})]
    page.keyboard.press("Enter")
    eventually(lambda: "device was lost" in page.inner_text(ANSWER) and "Half" in page.inner_text(ANSWER))


@check
def needs_the_key_too(page, stage):
    stage.key = "tk-1-right"
    page.reload()
    page.wait_for_selector("#key:visible")
    assert page.locator("#main").is_hidden() and focused(page) == "key-input"
    page.keyboard.type("tk-1-wrong")
    page.keyboard.press("Enter")
    eventually(lambda: "unknown" in page.inner_text("#key-wrong"))
    page.fill("#key-input", "tk-1-right")
    page.keyboard.press("Enter")
    page.locator("#main").wait_for()
    ask(page, "Hello")
    done(page)
    page.complaints.clear()


@check
def goes_on_while_another_view_is_shown(page, stage):
    stage.fake.pace_s = 0.1
    ask(page, "A story")
    eventually(lambda: "Once" in page.inner_text("#messages"))
    before = len(page.requests)
    page.click("#to-machine")
    page.wait_for_selector(".lane")
    page.click("#to-chat")
    done(page)
    assert FOX in page.inner_text("#messages")
    time.sleep(2.5)
    told = [url for url in page.requests[before:] if url.endswith("/api/troika/events")]
    assert len(told) == 1, "the machine's states are followed though nobody looks"
    assert "models 11.6 GiB of 31.5 GiB" in page.inner_text("#strip") and "146 waiting" in page.inner_text("#strip")


@check
def stays_where_the_reader_is(page, stage):
    stage.fake.text = "\n\n".join(f"Paragraph {i} of a long answer." for i in range(60))
    stage.fake.pace_s = 0.004
    ask(page, "Much")
    end = "(() => { const it = document.getElementById('scroll'); return it.scrollHeight - it.scrollTop - it.clientHeight })()"
    eventually(lambda: "Paragraph 25" in page.inner_text("#messages"))
    eventually(lambda: page.evaluate(end) < 60)
    page.hover("#scroll")
    page.mouse.wheel(0, -400)
    eventually(lambda: page.locator("#to-end").is_visible())
    done(page)
    assert page.evaluate(end) > 200, "it took the reader to the end"
    page.click("#to-end")
    eventually(lambda: page.evaluate(end) < 5)
