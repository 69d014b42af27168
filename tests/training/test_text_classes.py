"""Classifiers of texts from CSV files and folders to the packed file; what is wrong with data is said in one line."""

import numpy as np
import pytest
import torch

import onebit
from onebit.data.text_classes import Form, load_texts
from onebit.errors import DataError, FormatError
from onebit.tasks.text_classes import TextClassification
from onebit.training import load_recipe, train

FORM = Form("text", "label", "file")
NOUNS, VERBS = ("cat", "dog", "bird", "mouse", "horse", "cow"), ("runs", "sleeps", "eats", "sings", "hides", "waits")
QUICK = {
    "epochs": 4,
    "vocabulary": 300,
    "context": 16,
    "blocks": 1,
    "features": 32,
    "precision": "float32",
    "validation_share": 0.0,
}


def sentences():
    """The animal comes first or last: only the order of words tells the classes apart."""
    for noun in NOUNS:
        for verb in VERBS:
            for end in ("today", "here", "now", "there"):
                yield f"the {noun} {verb} {end}", "first"
                yield f"{end} {verb} the {noun}", "last"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    data = folder / "all.csv"
    data.write_text(
        "id,text,label\n" + "".join(f'{i},"{text}",{label}\n' for i, (text, label) in enumerate(sentences()))
    )
    run = train(load_recipe("text-classes").override({**QUICK, "data": str(data)}), folder / "run", progress=False)
    onebit.pack(run.model, folder / "a.onebit", run.task, run.training)
    return run, folder / "a.onebit", data


def test_texts_are_learned_packed_and_verified(trained):
    run, file, data = trained
    assert run.result()["test_accuracy"] > 0.95
    assert onebit.verify(file, run).equal
    figures = onebit.evaluate(file, str(data))
    assert figures.part == "test" and figures.count == run.result()["test_inputs"]
    assert figures.figures["accuracy"] == pytest.approx(onebit.evaluate(run).figures["accuracy"], abs=0.03)


def test_a_session_reads_texts_of_any_length(trained, tmp_path):
    run, file, _ = trained
    session = onebit.load(file, "float32", threads=1)
    (found,) = session.classify(["the dog sings now"])
    assert found[0][0] == "first"
    ids = session.tokenizer.encode("the dog sings now")
    with torch.inference_mode():
        expected = run.model(torch.tensor([ids]))[0, -1].softmax(0)
    shares = dict(found)
    assert [shares[label] for label in run.task.labels] == pytest.approx(expected.tolist(), abs=1e-5)
    long = "the dog sings now. " * 20
    ids = session.tokenizer.encode(long)
    parts = [ids[i : i + 16] for i in range(0, len(ids), 16)]
    with torch.inference_mode():
        each = [run.model(torch.tensor([part]))[0, -1].softmax(0).numpy() for part in parts]
    mean = np.average(each, 0, [len(part) for part in parts])
    assert [dict(session.classify([long])[0])[label] for label in run.task.labels] == pytest.approx(mean, abs=1e-5)
    (tmp_path / "a.txt").write_text("now sings the dog")
    assert str(session.answer(tmp_path / "a.txt", 1)).startswith("last ")


@pytest.mark.parametrize(
    ("given", "words"), [([""], "a text is empty"), ("now", "give a list of texts"), ([b"x"], "a text is empty")]
)
def test_what_is_no_text_is_refused(trained, given, words):
    with pytest.raises(DataError, match=words):
        onebit.load(trained[1], threads=1).classify(given)


@pytest.mark.parametrize("batch", [np.zeros((1, 17), int), np.full((1, 2), 5000), np.zeros((1, 2), np.float32)])
def test_tokens_that_do_not_fit_are_refused(trained, batch):
    with pytest.raises(DataError, match=r"\[Session\] give"):
        onebit.load(trained[1], threads=1)(batch)


def test_predictions_are_drawn(trained, tmp_path):
    from onebit.figures import save
    from onebit.kinds.measuring import predictions_figure

    figure = predictions_figure(trained[0].path)
    save(figure, tmp_path / "a.png")
    assert len(figure.texts) == 16


def test_folders_are_classes_and_paragraphs_texts(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_text("one " * 20 + "\n\n" + "two " * 20 + "\n\nshort")
    assert [label for _, label in load_texts(str(tmp_path), FORM)] == ["a", "b"]
    found = load_texts(str(tmp_path), Form("text", "label", "paragraph"))
    assert [(text[:3], label) for text, label in found] == [("one", "a"), ("two", "a"), ("one", "b"), ("two", "b")]


def test_the_data_that_are_made_on_the_spot_have_two_classes():
    found = load_texts("code-or-prose", FORM)
    assert len(found) > 500 and {label for _, label in found} == {"code", "prose"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column 'text': it has nothing"),
        ("words,label\nx,a\n", "has no column 'text': it has 'words', 'label'; name the columns with --text-column"),
        ("text,label\nx\n", "line 2 has 1 cells: needs 2"),
        ("text,label\nx,\n", "line 2 has an empty text or label"),
        ("text,label\n", "has no row with a text"),
        ("text,label\nx,a\ny,a\n", "has one class alone, 'a'"),
        (b"text,label\n\xff,a\n", "is not text in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said(tmp_path, text, words):
    (tmp_path / "a.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=words) as error:
        load_texts(str(tmp_path / "a.csv"), FORM)
    assert "\n" not in str(error.value)


def test_data_that_are_not_there_or_hold_no_text(tmp_path):
    with pytest.raises(DataError, match="is not there: give a CSV file"):
        load_texts("nowhere", FORM)
    with pytest.raises(DataError, match="has no text in files that end in .txt"):
        load_texts(str(tmp_path), FORM)


def test_a_class_that_the_network_does_not_know_is_refused(trained, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "the dog,first\nthe cat,middle\n" * 10)
    with pytest.raises(
        DataError, match="has the class 'middle', which the network does not know: it has 'first', 'last'"
    ):
        onebit.evaluate(trained[1], str(tmp_path / "a.csv"))


GOOD = TextClassification(("a", "b"), "[PAD]", 8).to_json()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": 3}, "labels=3: needs a list of texts"),
        ({"labels": []}, "has no labels"),
        ({"vocabulary": ["x"]}, "vocabulary=.*needs a text"),
        ({"context": 0}, "context=0: needs an integer from 1"),
        ({"unit": "line"}, "unit=.*use 'file' or 'paragraph'"),
        ({"alphabet": "words"}, "alphabet=.*use 'bytes'"),
    ],
)
def test_a_damaged_task_is_refused(change, words):
    assert TextClassification.from_json(GOOD).to_json() == GOOD
    with pytest.raises(FormatError, match=words):
        TextClassification.from_json({**GOOD, **change})
