"""Scores of parts without Ray: equal to those of the sessions, and a reason for each record without scores."""

import io
import math
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import onebit
from onebit.data.examples import Examples
from onebit.data.text import _documents
from onebit.data.tokens import prepare_text
from onebit.errors import DataError, OnebitError
from onebit.fileformat import PackedModel, load_model, save_model
from onebit.metrics import nats_of
from onebit.scoring.parts import Part, plan
from onebit.scoring.worker import Options, PartScorer, digest_of

CONTEXT = 16  # of the language model


def scored(model, data, kind="image", options=None, **keys):
    """The rows of all scores and of all errors of some data."""
    planned = plan(kind, [data] if isinstance(data, Path) else data, **keys)
    scorer = PartScorer(model, Options(columns=planned.columns, **(options or {})), 1)
    tables, errors = [], []
    for part in planned.parts:
        result = scorer.score(Part.from_json(part.to_json()))
        assert result.scored + result.failed == part.records
        table = pq.read_table(io.BytesIO(result.scores))
        assert table.schema.equals(scorer.schema)
        tables += table.to_pylist()
        errors += pq.read_table(io.BytesIO(result.errors)).to_pylist() if result.errors else []
    return tables, errors


def png(seed=0):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (15, 9, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_labels_are_those_of_classify(classifier, pictures, precision):
    rows, errors = scored(classifier, pictures, options={"precision": precision, "logits": True}, part_records=5)
    session = onebit.load(classifier, precision, 1)
    assert len(rows) == 23
    assert [error["id"] for error in errors] == ["part1/broken.jpg"]
    assert "not an image that Pillow can read" in errors[0]["reason"]
    for row in rows:
        expected = session.classify([row["path"]], top=4)[0]
        assert list(zip(row["top_labels"], row["top_probabilities"], strict=True)) == expected
        assert (row["label"], row["probability"]) == expected[0]
        assert session.task.labels[row["label_index"]] == row["label"]
        assert row["path"] == str(pictures / row["id"])
        pixels = onebit.images.load_image(row["path"], (12, 12))
        assert row["logits"] == session(pixels[None])[0].tolist()


def test_top_is_cut(classifier, pictures):
    rows, _ = scored(classifier, pictures, options={"top": 2})
    assert all(len(row["top_labels"]) == len(row["top_probabilities"]) == 2 for row in rows)


def test_texts_within_the_context_get_what_score_gives(language, texts):
    rows, errors = scored(language, texts, "text")
    session = onebit.load(language, threads=1)
    assert [row["id"] for row in rows] == ["long.txt", "short.txt"]
    assert {error["id"]: error["reason"] for error in errors} == {
        "empty.txt": "empty text",
        "binary.txt": "is binary and not text: it contains zero bytes",
        "latin.txt": "not UTF-8 at byte 2: convert it",
    }
    short = rows[1]
    expected = [p for _, p in session.score("the cat sat")]
    assert short["tokens"] == len(expected)
    assert short["log_probability"] == pytest.approx(sum(expected), rel=1e-12)
    assert short["perplexity"] == pytest.approx(math.exp(-sum(expected) / len(expected)))
    assert short["bits_per_byte"] == pytest.approx(-sum(expected) / math.log(2) / len("the cat sat"))


def test_longer_texts_are_judged_in_the_windows_of_evaluate(language, texts, tmp_path, monkeypatch):
    monkeypatch.setenv("ONEBIT_CACHE", str(tmp_path))
    session = onebit.load(language, threads=1)
    row = next(row for row in scored(language, texts, "text")[0] if row["id"] == "long.txt")
    text, _ = prepare_text(_documents(str(texts / "long.txt"), "test")[0], session.tokenizer, "document", "long")
    windows = Examples(text, CONTEXT)
    nats = 0.0
    for index in range(len(windows)):
        inputs, targets = (array[0] for array in windows.take(np.array([index])))
        count = int((targets >= 0).sum())
        found = nats_of(session.logits(inputs[:count].tolist()), targets[:count])[0]
        # The separator behind the text belongs to a text that goes on, not to this record.
        nats += float(found[targets[:count] != session.tokenizer.separator].sum(dtype=np.float64))
    assert row["tokens"] == len(text) - 2 > CONTEXT
    assert row["log_probability"] == pytest.approx(-nats, rel=1e-6)


def test_lines(language, tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes(b"the cat\n\nthe dog\r\n" + "wörter".encode() + b"\nse\xf1or\nend")
    rows, errors = scored(language, file, "text", lines=True, part_records=2)
    assert [row["id"] for row in rows] == ["lines.txt:1", "lines.txt:3", "lines.txt:4", "lines.txt:6"]
    assert {error["id"]: error["reason"] for error in errors} == {
        "lines.txt:2": "empty text",
        "lines.txt:5": "not UTF-8 at byte 2: convert it",
    }
    session = onebit.load(language, threads=1)
    assert rows[1]["log_probability"] == pytest.approx(sum(p for _, p in session.score("the dog")), rel=1e-12)


def test_images_in_parquet_as_hugging_face_writes_them(classifier, tmp_path):
    Image.open(io.BytesIO(png(3))).save(tmp_path / "beside.png")
    images = [
        {"bytes": png(1), "path": "one.png"},
        {"bytes": None, "path": "beside.png"},
        {"bytes": b"nothing", "path": "bad.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": png(2), "path": None},
    ]
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, type_), "label": [0, 1, 0, 1, 0, 1], "id": [10, 11, 12, 13, 14, 15]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    rows, errors = scored(classifier, tmp_path / "a.parquet", keep=["label"], part_records=3)
    assert [(row["id"], row["input_label"]) for row in rows] == [(10, 0), (11, 1), (15, 1)]
    assert [row["path"] for row in rows] == ["one.png", "beside.png", str(tmp_path / "a.parquet")]
    assert [error["id"] for error in errors] == ["12", "13", "14"]
    assert errors[1]["reason"] == errors[2]["reason"] == "null: the table has no value here"
    expected = onebit.load(classifier, threads=1).classify([io.BytesIO(png(2))], 1)[0][0]
    assert (rows[2]["label"], rows[2]["probability"]) == expected


def test_columns_that_are_carried_keep_their_types(language, tmp_path):
    times = pa.array([1, None, 3], pa.timestamp("ns"))
    table = pa.table({"text": ["the cat", None, "the dog"], "when": times, "more": [[1], [2, 3], []]})
    pq.write_table(table, tmp_path / "a.parquet")
    planned = plan("text", [tmp_path / "a.parquet"], keep=["when", "more"])
    scorer = PartScorer(language, Options(columns=planned.columns), 1)
    found = pq.read_table(io.BytesIO(scorer.score(planned.parts[0]).scores))
    assert found["when"].equals(table["when"].take([0, 2]))
    assert found["more"].to_pylist() == [[1], []]
    assert found["id"].to_pylist() == ["a.parquet:0", "a.parquet:2"]


def test_paths_in_parquet(classifier, pictures, tmp_path):
    (tmp_path / "x.png").write_bytes(png())
    paths = [str(next((pictures / "part0").iterdir())), "x.png", "missing.png", "", "a\0b.png", None]
    pq.write_table(pa.table({"path": paths}), tmp_path / "a.parquet")
    rows, errors = scored(classifier, tmp_path / "a.parquet")
    assert [row["path"] for row in rows] == [paths[0], str(tmp_path / "x.png")]
    assert len(errors) == 4
    assert "missing.png: no such file" in errors[0]["reason"]
    assert "is a folder" in errors[1]["reason"]


def test_a_damaged_table_fails_row_by_row(language, tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"the cat number {i}" for i in range(400)]}), file, row_group_size=200)
    whole = file.read_bytes()
    start = pq.read_metadata(file).row_group(1).column(0).dictionary_page_offset
    file.write_bytes(whole[:start] + b"\xff" * 40 + whole[start + 40 :])
    rows, errors = scored(language, file, "text", part_records=100)
    assert [row["id"] for row in rows] == [f"a.parquet:{i}" for i in range(200)]
    assert [error["id"] for error in errors] == [f"a.parquet:{i}" for i in range(200, 400)]
    assert "is damaged" in errors[0]["reason"]


def test_a_file_that_is_no_table_is_a_record_that_fails(language, tmp_path):
    pq.write_table(pa.table({"text": ["the cat"]}), tmp_path / "good.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    rows, errors = scored(language, tmp_path, "text")
    assert [row["id"] for row in rows] == ["good.parquet:0"]
    assert [error["id"] for error in errors] == ["bad.parquet"]
    assert "is not a Parquet file" in errors[0]["reason"]


def test_odd_files(classifier, tmp_path):
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "cut.png").write_bytes(png()[:100])
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).write_bytes(png())
    rows, errors = scored(classifier, tmp_path)
    assert [row["id"] for row in rows] == ["caf\\xe9.png"]
    assert {error["id"] for error in errors} == {"link.png", "cut.png"}


def test_files_that_change_while_they_are_read(classifier, language, tmp_path):
    image, text = tmp_path / "a.png", tmp_path / "a.txt"
    image.write_bytes(png())
    text.write_text("the cat\nthe dog\nthe mat\n")
    pictures = plan("image", [image]).parts
    lines = plan("text", [text], lines=True).parts
    image.unlink()
    text.write_text("the cat\n")
    result = PartScorer(classifier, Options(), 1).score(pictures[0])
    assert (result.scored, result.failed) == (0, 1)
    result = PartScorer(language, Options(), 1).score(lines[0])
    assert (result.scored, result.failed) == (1, 2)
    text.unlink()
    result = PartScorer(language, Options(), 1).score(lines[0])
    assert (result.scored, result.failed) == (0, 3)
    reasons = pq.read_table(io.BytesIO(result.errors))["reason"].to_pylist()
    assert all("cannot be read: No such file" in reason for reason in reasons)


def test_another_model_at_the_same_place_is_refused(classifier, language, tmp_path):
    file = tmp_path / "model.onebit"
    file.write_bytes(language.read_bytes())
    with pytest.raises(OnebitError, match="is not the model that the run was started with"):
        PartScorer(file, Options(), 1, digest_of(classifier))


def test_a_model_of_another_kind_is_refused(classifier, tmp_path):
    model = load_model(classifier)
    save_model(PackedModel(model.program, model.tensors, {"kind": "other"}), tmp_path / "other.onebit")
    with pytest.raises(DataError, match="neither an image classifier nor a language model"):
        PartScorer(tmp_path / "other.onebit", Options(), 1)
