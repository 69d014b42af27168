"""`onebit export web`: the folder in a real Chromium, by a double click and from a static server."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_actions import picture, write

import onebit
from onebit.data import load_images
from onebit.exports import export

PROMPT = "It was a dark night, and"


def opened(browser: Any, address: str, told: list[str]) -> Any:
    """The page at a phone's width, with its model loaded. Nothing may be asked of others, and nothing told to the console."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    base = address.rpartition("/")[0]
    page.on("request", lambda asked: told.append(asked.url) if not asked.url.startswith((base, "blob:")) else None)
    page.goto(address)
    page.wait_for_function("() => document.querySelector('#about').textContent.includes('memory')")
    return page


@pytest.mark.parametrize("by", ["double click", "server"])
def test_a_page_writes_what_the_package_writes(browser: Any, site: Path, serve: Any, tmp_path: Path, by: str) -> None:
    export("books-10m", "web", tmp_path / "site", engine=site)
    told: list[str] = []
    with serve(tmp_path / "site") as address:
        page = opened(browser, (tmp_path / "site" / "index.html").as_uri() if by == "double click" else address, told)
        greedy = write(page, prompt=PROMPT, tokens="60", temperature="0", seed="7")
        first = write(page, temperature="0.8")
        assert write(page) == first != write(page, seed="8")
        picture(page, f"exported-{by.replace(' ', '-')}")
        page.close()
    session = onebit.load("books-10m", threads=1)
    assert greedy == PROMPT + session.write(PROMPT, 60, temperature=0).text
    assert told == []


def test_a_page_classifies(browser: Any, site: Path, tmp_path: Path) -> None:
    from PIL import Image

    export(site / "digits.onebit", "web", tmp_path / "site", engine=site)
    pixels = np.asarray(load_images("digits", size=(16, 16), channels=1).test.pixels[0])
    Image.fromarray(pixels[..., 0]).save(tmp_path / "digit.png")
    ((label, probability),) = onebit.load(site / "digits.onebit", threads=1).classify([pixels], top=1)[0]
    told: list[str] = []
    page = opened(browser, (tmp_path / "site" / "index.html").as_uri(), told)
    page.set_input_files("#picture", tmp_path / "digit.png")
    page.wait_for_selector("#labels li")
    assert page.text_content("#labels li:first-child") == f"{label}{100 * probability:.1f} %"
    page.close()
    assert told == []
