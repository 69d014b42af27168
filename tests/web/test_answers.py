"""The engine in WebAssembly gives the answers of the engine in the package."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import onebit
from onebit.data import load_images

HERE = Path(__file__).parent
PROMPT = "It was a dark night, and the señor — alone — said: "


def answers(node: str, site: Path, *arguments: str) -> dict[str, list[float] | str]:
    command = [node, str(HERE / "answers.mjs"), str(site), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["books-10m", "books-31m"])
def test_greedy_texts_are_the_same(node: str, site: Path, name: str) -> None:
    file = Path(onebit.pretrained.find(name))
    session = onebit.load(file, threads=1)
    written = session.write(PROMPT, 200, temperature=0.0)
    answer = answers(node, site, str(file), "200", PROMPT)
    assert answer["prompt"] == session.tokenizer.encode(PROMPT)
    assert answer["tokens"] == list(written.tokens) and len(written.tokens) == 200
    assert answer["text"] == written.text


def test_a_full_context_slides_in_the_same_way(node: str, site: Path) -> None:
    session = onebit.load("books-10m", threads=1)
    prompt = "the sea and " * 100
    written = session.write(prompt, 150, temperature=0.0)
    answer = answers(node, site, str(onebit.pretrained.find("books-10m")), "150", prompt)
    assert answer["tokens"] == list(written.tokens) and len(written.tokens) == 150


def test_images_have_the_same_logits(node: str, site: Path, tmp_path: Path) -> None:
    file = site / "digits.onebit"
    images = load_images("digits", size=(16, 16), channels=1).test.pixels[:100]
    (tmp_path / "pixels").write_bytes(np.ascontiguousarray(images).tobytes())
    answer = answers(node, site, str(file), str(tmp_path / "pixels"))
    expected = onebit.load(file, threads=1)(images)
    assert answer["isa"] == "wasm"
    np.testing.assert_allclose(np.reshape(answer["logits"], expected.shape), expected, atol=1e-5, rtol=0)
