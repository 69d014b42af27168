"""`onebit bench` on networks of random bits, because speed does not depend on the bits."""

import json

import pytest

import onebit
from onebit.cli.main import main
from onebit.models import language_decoder
from onebit.text import TextTask

WORDS = [f"word{i}" for i in range(20)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.onebit"
    onebit.pack(onebit.models.conv_classifier(3, 2, (4,)), path, onebit.ImageTask(("a", "b"), (8, 8)))
    return path


@pytest.fixture(scope="module", params=[1, 8])
def texts(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("texts") / "texts.onebit"
    task = TextTask(("[PAD]", "[UNK]", "[SEP]", *WORDS), "words", True)
    shape = {"vocabulary": 23, "context": request.param, "blocks": 1, "features": 8, "heads": 2, "head": [8]}
    onebit.pack(language_decoder(shape), path, task)
    return path


def bench(capsys, *words):
    capsys.readouterr()
    assert main(["bench", *(str(word) for word in words), "--seconds", "0.02"]) == 0
    return capsys.readouterr().out


def fails(capsys, words, message):
    """The command fails with one line that holds `message`."""
    capsys.readouterr()
    assert main(["bench", *(str(word) for word in words)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ")
    assert error.count("\n") == 1
    assert message in error


def positive(values):
    return all(value > 0 for value in values.values())


def test_images(images, capsys):
    result = json.loads(bench(capsys, images, "--json", "--threads", "2", "1"))
    assert (result["file"], result["file_bytes"]) == (str(images), images.stat().st_size)
    assert (result["kind"], result["precision"]) == ("images", "int8")
    assert result["isa"] == onebit.load(images).isa
    assert result["load_ms"] > 0
    assert [run["threads"] for run in result["runs"]] == [2, 1]
    for run in result["runs"]:
        assert set(run) == {
            "threads",
            "memory_bytes",
            "ms_per_image",
            "images_per_second",
            "ms_per_image_in_batch_of_8",
            "images_per_second_in_batch_of_8",
        }
        assert positive(run)
        assert run["ms_per_image"] * run["images_per_second"] == pytest.approx(1000)


def test_texts(texts, capsys):
    result = json.loads(bench(capsys, texts, "--json", "--threads", "1"))
    assert result["kind"] == "text"
    (run,) = result["runs"]
    assert set(run) == {
        "threads",
        "memory_bytes",
        "context",
        "ms_per_token_at_beginning",
        "tokens_per_second_at_beginning",
        "ms_per_token_at_end",
        "tokens_per_second_at_end",
        "prompt_ms",
        "prompt_tokens_per_second",
    }
    assert positive(run)
    assert run["context"] == onebit.load(texts).context


def test_precision_and_instruction_set(images, texts, capsys):
    for file in (images, texts):
        result = json.loads(bench(capsys, file, "--json", "--precision", "float32", "--isa", "scalar"))
        assert (result["precision"], result["isa"]) == ("float32", "scalar")


def test_from_python(images):
    speed = onebit.bench(images, [1], "float32", seconds=0.02)
    (run,) = speed.runs
    assert (run.threads, speed.precision, speed.kind) == (1, "float32", "images")
    assert speed.to_dict()["runs"][0]["ms_per_image"] == run.ms_per_image
    assert f"{run.ms_per_image:10.3f} ms" in str(speed)


def test_for_people(images, texts, capsys):
    output = bench(capsys, images, "--threads", "1")
    assert "images/s" in output and "an image of a batch of 8" in output and "1 thread," in output
    assert "a token at its end" in bench(capsys, texts)


def test_errors(images, tmp_path, capsys):
    fails(capsys, [tmp_path / "none.onebit"], "no such file")
    (tmp_path / "bad.onebit").write_bytes(b"nothing at all")
    fails(capsys, [tmp_path / "bad.onebit"], "bad.onebit")
    fails(capsys, [images, "--threads", "0"], "threads=0: use 1 to 256")
    fails(capsys, [images, "--threads", "1", "1000"], "threads=1000: use 1 to 256")
    fails(capsys, [images, "--isa", "mmx"], "isa='mmx' is unknown")
    for seconds in ("0", "-1", "nan", "inf"):
        fails(capsys, [images, "--seconds", seconds], "use a number above 0")
