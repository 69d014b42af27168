"""The page, in a real browser: it writes, stops, chats and classifies."""

import json
import shutil
import time

import pytest
from running import DIGITS, TEXTS

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def wrong():
    """What the browser's console says."""
    return []


@pytest.fixture
def page(browser, served, wrong):
    """The page. Nothing may go wrong in it, and it may ask nobody but its server."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, accept_downloads=True)
    page = context.new_page()
    asked = []
    page.on("console", lambda line: wrong.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.url)
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()
    assert wrong == []
    assert all(url.startswith((served.url, "blob:", "data:")) for url in asked)


def until(page, condition, seconds=15):
    """Wait for a condition in JavaScript. Playwright's own waiting evaluates texts inside the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def write(page, prompt, seed, length=40):
    page.fill("#prompt", prompt)
    page.fill("#seed", str(seed))
    page.fill("#length", str(length))
    page.click("#write-form button[type=submit]")
    until(page, f"document.getElementById('rate').textContent.startsWith('{length} tokens')")
    page.wait_for_selector("#stop:disabled")
    return page.text_content("#text")


def test_the_same_seed_writes_the_same_text(page, session):
    first = write(page, "It was", 3)
    assert first == "It was" + "".join(session.generate("It was", 40, seed=3))
    assert write(page, "It was", 3) == first
    assert write(page, "It was", 4) != first
    assert "a second" in page.text_content("#rate")
    assert page.text_content("#model option") == f"{TEXTS} (1.3 MB)"


def test_a_text_can_be_stopped_and_go_on(page, served):
    page.fill("#length", "4096")
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    until(page, "document.getElementById('text').textContent.length > 100")
    page.keyboard.press("Escape")
    page.wait_for_selector("#stop:disabled")
    assert served.settled("onebit_texts_live", 0)
    stopped = page.text_content("#text")
    page.fill("#length", "5")
    page.click("#go-on")
    until(page, f"document.getElementById('text').textContent.length > {len(stopped)}")
    assert page.text_content("#text").startswith(stopped)


def test_probabilities_stand_under_the_tokens(page):
    page.check("#probabilities")
    page.fill("#seed", "1")
    page.fill("#length", "12")
    page.click("#write-form button[type=submit]")
    until(page, "document.querySelectorAll('#text ruby').length == 12")
    numbers = [float(text.lstrip("<")) for text in page.locator("#text rt").all_text_contents()]
    assert all(0 < number <= 100 for number in numbers)
    assert page.locator("#text ruby").first.get_attribute("title").count("%") == 5


def test_a_chat_is_kept_exported_and_imported(page, served, tmp_path):
    page.click("#tab-chat")
    page.fill("#length", "8")
    page.fill("#say", "It was")
    page.keyboard.press("Control+Enter")
    until(page, "document.querySelectorAll('#messages li').length == 2")
    page.wait_for_selector("#chat-stop:disabled")
    assert "no chat template" in page.text_content("#note")
    said = page.locator("#messages li").all_text_contents()
    assert said[0] == "It was" and said[1]
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "chat.json")
    assert [message["content"] for message in json.loads((tmp_path / "chat.json").read_text())["messages"]] == said
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    page.click("#tab-chat")
    assert page.locator("#messages li").all_text_contents() == said
    page.click("#clear")
    assert page.locator("#messages li").all_text_contents() == ["No messages yet."]
    page.set_input_files("#import-file", tmp_path / "chat.json")
    until(page, "document.querySelectorAll('#messages li').length == 2")
    (tmp_path / "other.json").write_text('{"messages": [1]}')
    page.set_input_files("#import-file", tmp_path / "other.json")
    page.wait_for_selector("#message:not([hidden])")
    assert page.text_content("#message") == "This file is not a chat."


def draw(page, digit):
    box = page.locator("#canvas").bounding_box()
    strokes = {
        "1": [(0.42, 0.28), (0.54, 0.15), (0.54, 0.85)],
        "3": [(0.3, 0.25), (0.5, 0.12), (0.68, 0.28), (0.5, 0.48), (0.7, 0.68), (0.5, 0.88), (0.28, 0.75)],
    }[digit]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in strokes]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def test_a_drawn_digit_is_classified(page):
    page.click("#tab-classify")
    assert page.locator("#model option").all_text_contents() == [f"{DIGITS.stem} (0.02 MB)"]
    for digit in ("3", "1"):
        page.click("#wipe")
        draw(page, digit)
        page.wait_for_selector("#labels .bar")
        assert page.locator("#labels li").count() == 10
        assert page.locator("#labels li span").first.text_content() == digit


def test_a_file_that_is_no_picture_is_told(page, wrong, tmp_path):
    page.click("#tab-classify")
    (tmp_path / "a.png").write_bytes(b"nothing")
    page.set_input_files("#picture", tmp_path / "a.png")
    page.wait_for_selector("#message:not([hidden])")
    assert "not one that can be read" in page.text_content("#message")
    assert [line for line in wrong if "status of 400" not in line] == []
    wrong.clear()


def test_it_fits_a_phone_and_has_names_for_readers(page):
    page.set_viewport_size(PHONE)
    for tab in ("write", "chat", "classify"):
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input, select, textarea, canvas')].filter((element) =>
            !(element.labels?.length || element.getAttribute('aria-label') || element.getAttribute('aria-labelledby') || element.textContent.trim())
        ).map((element) => element.outerHTML)"""
    )
    assert unnamed == []


def test_dark_and_light(page):
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark
    page.emulate_media(color_scheme="dark")
    page.evaluate("localStorage.clear()")
    page.reload()
    assert page.evaluate(background) == dark


def test_tabs_by_keyboard(page):
    page.focus("#tab-write")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#chat") and not page.is_visible("#write")
    page.keyboard.press("ArrowLeft")
    assert page.is_visible("#write")
