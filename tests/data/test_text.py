"""Reading, dividing, tokenizing and caching text, and cutting it into examples."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from onebit.data import text as module
from onebit.data import tokens as tokens_module
from onebit.data.examples import NOT_COUNTED, Examples
from onebit.data.text import Document, load_evaluation_text, load_text
from onebit.data.tokens import prepare_text
from onebit.errors import DataError
from onebit.text import Tokenizer, train_vocabulary

TASK = train_vocabulary(["one two three four five six seven\n" * 40], 300)
TOKENIZER = Tokenizer(TASK)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def lines(count):
    return "".join(f"line {i} of the text, with some words\n" for i in range(count))


def decode(text):
    return TOKENIZER.decode([int(t) for t in text.tokens])


def test_a_file_is_divided_at_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(lines(100))
    splits = load_text(str(path), 300, share=0.1)
    train, validation = (Tokenizer(splits.task).decode(t.tokens.tolist()) for t in (splits.train, splits.validation))
    assert train.startswith("[SEP]line 0 of") and train.endswith("\n[SEP]")
    assert validation.startswith("[SEP]line 9")
    assert train[5:-5] + validation[5:-5] == lines(100)
    assert splits.train.bytes + splits.validation.bytes == len(lines(100))
    assert splits.train.tokens_per_byte == (len(splits.train) - 1) / splits.train.bytes


def test_a_folder_is_divided_by_files_and_stays_divided(tmp_path):
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    for i in range(20):
        (folder / ("deep" if i % 2 else ".") / f"{i}.txt").write_text(f"text {i}\n" * 20)
    first = load_text(str(folder), 300, share=0.2)
    assert first.train.documents + first.validation.documents == 20
    held = {line for line in Tokenizer(first.task).decode(first.validation.tokens.tolist()).split("\n") if line}
    (folder / "21.txt").write_text("text 21\n" * 20)
    second = load_text(str(folder), 300, share=0.2)
    kept = Tokenizer(second.task).decode(second.validation.tokens.tolist())
    assert all(line.replace("[SEP]", "") in kept for line in held)
    assert load_text(str(folder), 300, share=0.2, seed=1).validation.bytes != 0


def divided(path, **options):
    splits = load_text(str(path), 300, **options)
    tokenizer = Tokenizer(splits.task)
    train, validation = (tokenizer.decode(t.tokens.tolist())[5:-5] for t in (splits.train, splits.validation))
    assert splits.train.replaced == splits.validation.replaced == 0
    assert train + validation == path.read_bytes().decode().replace("\r\n", "\n")
    return train, validation


@pytest.mark.parametrize(
    ("content", "begins"),
    [
        ("some words and " * 1000, " words and some"),  # as text8: at a blank
        ("x" * 10_000, "x" * 500),
        ('{"a":[' + "1234567," * 1250 + "0]}", ""),
        ("汉" * 9_999, "汉"),  # at a character
        ("a line of an old Macintosh\r" * 400, "a line of an old Macintosh\ra line"),
        ("line\n" * 10 + "a last line that is longer than the share " * 30, " "),
        ("line\r\n" * 10 + "a last line with an end, longer than the share" * 30 + "\r\n", " "),
        ("one line of a few words", "s"),
    ],
)
def test_a_text_without_a_line_end_is_divided_all_the_same(tmp_path, content, begins):
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode())
    _, held_out = divided(path)
    assert held_out.startswith(begins)
    assert len(held_out.encode()) == pytest.approx(0.05 * len(content.encode()), abs=60)


def test_a_long_text_in_one_line_keeps_its_division(tmp_path, monkeypatch):
    # Nothing of what was trained on before may be set aside now: a line end was looked for in one piece, and the cut was at that piece's end.
    monkeypatch.setattr(module, "_CHUNK_BYTES", 64)
    path = tmp_path / "a.txt"
    path.write_bytes(("汉" * 1000).encode())
    _, held_out = divided(path, share=0.1)
    assert len(held_out.encode()) == 300 - 64 - 2  # at the next character


def test_names_that_are_not_utf8_are_divided_by(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in (b"caf\xe9.txt", b"b.txt", b"c.txt"):
        (Path(os.fsdecode(folder)) / os.fsdecode(name)).write_text(lines(5))
    splits = load_text(str(folder), 300)
    assert splits.train.documents + splits.validation.documents == 3


def test_another_source_validates(tmp_path):
    (tmp_path / "a.txt").write_text(lines(50))
    (tmp_path / "b.txt").write_text("other words\n" * 10)
    splits = load_text(str(tmp_path / "a.txt"), 300, validation=str(tmp_path / "b.txt"))
    assert (splits.train.bytes, splits.validation.bytes) == (len(lines(50)), 120)


def test_lines_are_separated(tmp_path):
    (tmp_path / "a.txt").write_text("one two\n\n  \nthree\r\nfour")
    text, _ = load_evaluation_text(str(tmp_path / "a.txt"), TASK, "line")
    assert decode(text) == "[SEP]one two[SEP]three[SEP]four[SEP]"
    assert (text.documents, text.bytes) == (3, len("one two\nthree\nfour\n"))


def test_lines_of_old_macs_and_of_any_length_are_lines(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(b"one two\r\r  \rthree\r\nfour")
    text, _ = load_evaluation_text(str(tmp_path / "a.txt"), TASK, "line")
    assert decode(text) == "[SEP]one two[SEP]three[SEP]four[SEP]"
    assert (text.documents, text.bytes) == (3, len("one two\nthree\nfour\n"))
    monkeypatch.setattr(module, "_CHUNK_BYTES", 5)
    monkeypatch.setattr(tokens_module, "_BATCH_CHARACTERS", 20)
    content = "a line that is longer than a batch is\n \nshort\nand a long one to end with, without"
    (tmp_path / "b.txt").write_text(content)
    text, _ = load_evaluation_text(str(tmp_path / "b.txt"), TASK, "line")
    assert decode(text) == "[SEP]" + content.replace("\n \n", "\n").replace("\n", "[SEP]") + "[SEP]"
    assert (text.documents, text.bytes) == (3, len(content.replace("\n \n", "\n")) + 1)


def test_a_line_end_of_two_bytes_may_lie_across_two_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3)
    (tmp_path / "a.txt").write_bytes(b"ab\r\ncd\r\nabcde\r\n\r\ne\rf\r")
    text, _ = load_evaluation_text(str(tmp_path / "a.txt"), TASK)
    assert decode(text) == "[SEP]ab\ncd\nabcde\n\ne\rf\r[SEP]"


def test_runs_without_a_break_are_whole(tmp_path):
    content = "ACGTTGCA" * 500 + "\n" + "汉字" * 800 + "\n"
    (tmp_path / "a.txt").write_text(content, "utf-8")
    text, notes = load_evaluation_text(str(tmp_path / "a.txt"), TASK)
    assert (decode(text), notes, text.unknown) == (f"[SEP]{content}[SEP]", [], 0)
    splits = load_text(str(tmp_path / "a.txt"), 300, share=0.5)
    assert splits.train.unknown == splits.validation.unknown == 0


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["a file", "a full disk", "a full disk, and no temporary folder"])
def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path, cache, monkeypatch, place):
    (tmp_path / "a.txt").write_text(lines(100))
    expected = load_text(str(tmp_path / "a.txt"), 300)
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path / "other"))
    if place == "a file":
        (tmp_path / "other").write_text("")
    else:
        monkeypatch.setattr(tempfile, "mkdtemp", full)
        monkeypatch.setattr(module, "write_atomically", full)
    if "temporary" in place:
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
    found = load_text(str(tmp_path / "a.txt"), 300)
    assert found.task == expected.task
    for part, other in ((found.train, expected.train), (found.validation, expected.validation)):
        assert np.array_equal(part.tokens, other.tokens)
        assert (part.bytes, part.documents, len(part)) == (other.bytes, other.documents, len(other))
    reason = "No space left on device" if "disk" in place else "Not a directory|File exists"
    (note,) = found.notes
    assert re.fullmatch(
        rf"{tmp_path}/a.txt: tokens cannot be kept in {tmp_path}/other \(({reason})\) and are made again each time: "
        "set ONEBIT_CACHE to a folder that can be written",
        note,
    )


def test_no_place_for_tokens_at_all_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(lines(100))
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(tokens_module, "_MEMORY_BYTES", 100)
    with pytest.raises(
        DataError, match=rf"tokens cannot be kept in {tmp_path}/cache \(No space left.*: set ONEBIT_CACHE"
    ):
        load_evaluation_text(str(tmp_path / "a.txt"), TASK)


def test_no_home_is_no_hindrance(tmp_path, monkeypatch):
    monkeypatch.delenv("ONEBIT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    (tmp_path / "a.txt").write_text(lines(100))
    text, notes = load_evaluation_text(str(tmp_path / "a.txt"), TASK)
    assert decode(text) == f"[SEP]{lines(100)}[SEP]"
    assert "tokens cannot be kept (there is no home folder)" in notes[0]


@pytest.mark.parametrize("name", ["text.json", "tokens.bin"])
@pytest.mark.parametrize("content", [b"", b"{}"])
def test_a_damaged_cache_is_made_anew(tmp_path, cache, name, content):
    (tmp_path / "a.txt").write_text(lines(100))
    expected = load_text(str(tmp_path / "a.txt"), 300)
    found = [*cache.glob(f"tokens/*/{name}"), *cache.glob("vocabularies/*")]
    assert len(found) == 3
    for file in found:
        file.unlink()  # the old one is mapped
        file.write_bytes(content)
    again = load_text(str(tmp_path / "a.txt"), 300)
    assert (again.task, again.notes) == (expected.task, ())
    assert np.array_equal(again.train.tokens, expected.train.tokens)
    assert load_text(str(tmp_path / "a.txt"), 300).task == expected.task


def test_text_that_is_no_utf8_is_replaced_counted_and_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good \xff bad \xc3( \xef\xbf\xbd and more good text\n")
    text, notes = load_evaluation_text(str(tmp_path / "a.txt"), TASK)
    assert text.replaced == 2
    assert decode(text) == "[SEP]good \ufffd bad \ufffd( \ufffd and more good text\n[SEP]"
    assert notes == [f"{tmp_path / 'a.txt'}: invalid UTF-8 was replaced in 2 places"]


def test_a_character_may_lie_across_two_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 3)
    content = "äöü€😀" * 5
    (tmp_path / "a.txt").write_text(content, "utf-8")
    text, notes = load_evaluation_text(str(tmp_path / "a.txt"), TASK)
    assert decode(text) == f"[SEP]{content}[SEP]"
    assert (text.replaced, notes) == (0, [])


def test_binary_files_are_left_out_and_told(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.txt").write_text(lines(10))
    (folder / "b.bin").write_bytes(b"\0\1\2" * 100)
    (folder / ".hidden").write_text("secret")
    text, notes = load_evaluation_text(str(folder), TASK)
    assert decode(text) == f"[SEP]{lines(10)}[SEP]"
    assert notes == [f"{folder}: 1 binary files were skipped, the first is b.bin"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "contains no text: it is empty"), (b" \n \n", "contains no text"), (b"\0" * 50, "a.txt is binary")],
)
def test_files_without_text_are_named(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_evaluation_text(str(tmp_path / "a.txt"), TASK)


def test_sources_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such file or folder: give one, or one of python, wikitext-2, wikitext-103"):
        load_text(str(tmp_path / "nothing"), 300)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no text"):
        load_text(str(tmp_path / "empty"), 300)
    (tmp_path / "a.txt").write_text("é\n")
    with pytest.raises(DataError, match="too short to hold out 0.05 of it"):
        load_text(str(tmp_path / "a.txt"), 300)


def test_the_text_of_the_interpreter_is_there():
    documents, _ = module._documents("python", "train")
    names = {d.name for d in documents}
    assert {"argparse.py", "json/decoder.py", "pydoc_data/topics.py"} <= names
    assert not any(name.startswith(("test/", "site-packages/", "encodings/")) for name in names)


def test_a_second_preparation_comes_from_the_cache(tmp_path, cache, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text(lines(30))
    first, _ = load_evaluation_text(str(path), TASK)
    with monkeypatch.context() as patch:
        patch.setattr(tokens_module, "_write_tokens", lambda *a: pytest.fail("tokenized again"))
        second, _ = load_evaluation_text(str(path), TASK)
    assert np.array_equal(first.tokens, second.tokens)
    assert isinstance(second.tokens, np.memmap)
    path.write_text(lines(31))
    assert len(load_evaluation_text(str(path), TASK)[0]) > len(first)
    assert not [p for p in (cache / "tokens").iterdir() if p.name.startswith("tmp")]


def test_preparation_streams(tmp_path, cache):
    # 40 MB of text: read whole, with its tokens as a list, it would take hundreds of megabytes.
    path = tmp_path / "big.txt"
    with path.open("w") as file:
        for _ in range(40):
            file.write("some words that are written again and again, a megabyte of them\n" * 15_000)
    (tmp_path / "task.json").write_text(json.dumps(TASK.to_json()))
    code = f"""
import json, resource
from pathlib import Path
from onebit.data.text import Document
from onebit.data.tokens import prepare_text
from onebit.text import TextTask, Tokenizer
tokenizer = Tokenizer(TextTask.from_json(json.loads(Path({str(tmp_path / "task.json")!r}).read_text())))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = Path({str(path)!r}).stat().st_size
text, _ = prepare_text([Document("big", Path({str(path)!r}), 0, size)], tokenizer, "document", "big")
print(len(text), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, megabytes = done.stdout.split()
    assert int(count) > 5_000_000
    assert float(megabytes) < 400


def test_wikitext_is_read_through_datasets(tmp_path, monkeypatch):
    # A folder of the same form as the data set on the hub: parquet files, and a card that names its configurations.
    import datasets

    rows = {
        "train": ["", " = Title = \n", " Some text .\n"] * 30,
        "validation": [" Held out .\n"],
        "test": [" Test .\n"],
    }
    hub = tmp_path / "wikitext"
    card = "---\nconfigs:\n"
    for config in ("wikitext-2-raw-v1", "wikitext-103-raw-v1"):
        card += f"- config_name: {config}\n  data_files:\n"
        for part, texts in rows.items():
            (hub / config).mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_dict({"text": texts}).to_parquet(hub / config / f"{part}-00000-of-00001.parquet")
            card += f"  - split: {part}\n    path: {config}/{part}-*\n"
    (hub / "README.md").write_text(card + "---\n")
    monkeypatch.setattr(module, "WIKITEXT_PATH", str(hub))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    splits = load_text("wikitext-2", 300)
    assert Tokenizer(splits.task).decode(splits.validation.tokens.tolist()) == "[SEP] Held out .\n[SEP]"
    assert splits.train.bytes == 30 * len(" = Title = \n Some text .\n")
    text, _ = load_evaluation_text("wikitext-103", TASK)
    assert decode(text) == "[SEP] Test .\n[SEP]"
    sentences, _ = load_evaluation_text("wikitext-103", TASK, "line", "train")
    assert sentences.documents == 60


def test_wikitext_that_cannot_be_loaded_says_what_to_do(monkeypatch):
    import datasets

    def fail(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match="no network.*go online once"):
        load_text("wikitext-103", 300)


def prepared(tmp_path, content, unit="document"):
    path = tmp_path / "t.txt"
    path.write_text(content)
    size = path.stat().st_size
    return prepare_text([Document("t", path, 0, size, fingerprint=content)], TOKENIZER, unit, "t")[0]


def test_windows_make_each_token_a_target_once(tmp_path):
    text = prepared(tmp_path, lines(7))
    examples = Examples(text, 10, pad=TOKENIZER.pad)
    inputs, targets = examples.take(np.arange(len(examples)))
    assert inputs.shape == targets.shape == (len(examples), 10)
    counted = targets != NOT_COUNTED
    assert targets[counted].tolist() == text.tokens[1:].tolist()
    assert inputs[counted].tolist() == text.tokens[:-1].tolist()
    assert (inputs[~counted] == TOKENIZER.pad).all()


def test_sentences_are_cut_and_padded(tmp_path):
    text = prepared(tmp_path, "one two\nthree\n" + "four " * 30 + "\n", "line")
    examples = Examples(text, 8, "sentences", TOKENIZER.pad, TOKENIZER.separator)
    assert len(examples) == 3
    inputs, targets = examples.take(np.arange(3))
    assert (inputs[:, 0] == TOKENIZER.separator).all()
    for row, sentence in enumerate(("one two", "three")):
        ids = TOKENIZER.encode(sentence)
        assert inputs[row].tolist()[: len(ids) + 1] == [TOKENIZER.separator, *ids]
        assert targets[row].tolist() == [*ids, TOKENIZER.separator, *[NOT_COUNTED] * (7 - len(ids))]
    assert (targets[2] != NOT_COUNTED).all()


def test_too_little_text_for_an_example(tmp_path):
    text = prepared(tmp_path, "a")
    with pytest.raises(DataError, match="too few for one example"):
        Examples(text, 8, "windows", offset=20)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for source in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(DataError, match="is a device or pipe: give a text file"):
            load_text(str(source), 300)
