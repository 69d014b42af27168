"""What tests do in a page."""

import os
from pathlib import Path
from typing import Any


def picture(page: Any, name: str) -> None:
    """Keep a picture, where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def write(page: Any, **options: str) -> str:
    """Fill in the fields, write, and give the text."""
    for name, value in options.items():
        page.fill(f"#{name}", value)
    page.click("#start")
    page.wait_for_selector("#start:not([disabled])")
    text: str = page.text_content("#written")
    return text
