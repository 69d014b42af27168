"""The page in a real Chromium: `SCREENSHOTS=folder pytest tests/web/test_page.py` keeps pictures of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_actions import picture, write

import onebit


@pytest.fixture(params=["wide", "phone"])
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The page, at a desktop's size or as a dark phone. Nothing may be asked of another server, and nothing may be told to the console."""
    size = {"width": 1000, "height": 900} if request.param == "wide" else {"width": 390, "height": 844}
    context = browser.new_context(viewport=size, color_scheme="light" if request.param == "wide" else "dark")
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asked: told.append(asked.url) if not asked.url.startswith((address, "blob:")) else None)
    page.goto(address)
    yield page
    picture(page, f"{request.node.originalname}-{request.param}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the window"
    context.close()
    assert told == []


def choose(page: Any, site: Path, name: str) -> None:
    page.set_input_files("#file", site / name)
    page.wait_for_function("name => document.querySelector('#about').textContent.startsWith(name)", arg=name)


def test_a_seed_writes_the_same_text_twice(page: Any, site: Path) -> None:
    choose(page, site, "books-10m.onebit")
    first = write(page, prompt="It was", tokens="60", seed="7")
    assert first.startswith("It was") and len(first) > 100
    assert "60 tokens" in page.text_content("#speed")
    assert write(page, seed="7") == first
    assert write(page, seed="8") != first


def test_stop_ends_a_text(page: Any, site: Path) -> None:
    choose(page, site, "books-10m.onebit")
    page.fill("#prompt", "It was")
    page.fill("#tokens", "100000")
    page.click("#start")
    page.wait_for_function("() => document.querySelector('#written').textContent.length > 100")
    page.click("#stop")
    page.wait_for_selector("#start:not([disabled])")
    tokens = int(page.text_content("#speed").split()[0])
    assert 20 < tokens < 100000


def draw(page: Any, *strokes: list[tuple[int, int]]) -> None:
    box = page.locator("#canvas").bounding_box()
    for stroke in strokes:
        at = [(box["x"] + x / 280 * box["width"], box["y"] + y / 280 * box["height"]) for x, y in stroke]
        page.mouse.move(*at[0])
        page.mouse.down()
        for point in at[1:]:
            page.mouse.move(*point, steps=8)
        page.mouse.up()


@pytest.mark.parametrize(
    ("digit", "stroke"),
    [
        ("7", [(80, 60), (200, 60), (150, 140), (120, 230)]),
        ("1", [(110, 90), (150, 50), (150, 230)]),
        ("0", [(140, 50), (95, 90), (85, 140), (95, 190), (140, 230), (185, 190), (195, 140), (185, 90), (140, 50)]),
    ],
)
def test_a_drawn_digit_is_classified(page: Any, site: Path, digit: str, stroke: list[tuple[int, int]]) -> None:
    choose(page, site, "digits.onebit")
    page.locator("#canvas").scroll_into_view_if_needed()
    draw(page, stroke)
    page.wait_for_selector("#labels li")
    assert page.text_content("#labels li:first-child span:first-child") == digit
    picture(page, f"drawn-{digit}")
    page.click("#clear")
    assert page.locator("#labels li").count() == 0


def test_a_dropped_picture_is_classified(page: Any, site: Path, tmp_path: Path) -> None:
    from PIL import Image

    from onebit.data import load_images

    pixels = load_images("digits", size=(16, 16), channels=1).test.pixels[0]
    ((label, probability),) = onebit.load(site / "digits.onebit", threads=1).classify([pixels], top=1)[0]
    Image.fromarray(pixels[..., 0]).save(tmp_path / "digit.png")
    choose(page, site, "digits.onebit")
    page.set_input_files("#picture", tmp_path / "digit.png")
    page.wait_for_selector("#labels li")
    assert page.text_content("#labels li:first-child") == f"{label}{100 * probability:.1f} %"


def test_what_is_not_a_model_is_refused(page: Any, tmp_path: Path) -> None:
    (tmp_path / "wrong.onebit").write_bytes(b"not a model")
    page.set_input_files("#file", tmp_path / "wrong.onebit")
    page.wait_for_selector("#error:not([hidden])")
    assert page.text_content("#error").startswith("wrong.onebit: [memory]")
    assert page.is_hidden("#text") and page.is_hidden("#image")


def test_a_model_next_to_the_page(page: Any) -> None:
    page.click("#examples button:first-child")
    page.wait_for_selector("#text:not([hidden])")
    assert "256 tokens" in page.text_content("#about")
