"""A network is measured on held-out data, from any folder and as run or packed file, or a note says that this cannot be known."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from onebit.cli.main import main
from onebit.data import load_images
from onebit.fileformat import load_model, save_model
from onebit.training import load_run

TINY = ["--image-size", "8,8", "--widths", "4", "--epochs", "1", "--threads", "1", "--augment", "none", "--quiet"]
TEXT = ["--epochs", "1", "--epoch-steps", "2", "--blocks", "1", "--features", "16", "--heads", "1", "--head", "16"]
TEXT += ["--context", "16", "--vocabulary", "300", "--threads", "1", "--precision", "float32", "--quiet"]

pytestmark = pytest.mark.usefixtures("cache")


def draw(root, seed, count=10, names=("cat", "dog")):
    """Pictures of noise, so that no two are alike and none can be told from another by what it shows."""
    rng = np.random.default_rng(seed)
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, texts, and a run of each, trained with relative paths and a seed that is not 0."""
    root = tmp_path_factory.mktemp("place")
    draw(root / "pics", 0)
    for name in ("book.txt", "other.txt"):
        (root / name).write_text("".join(f"{name} says line {i} of many\n" for i in range(400)))
    (root / "texts").mkdir()
    for i in range(8):
        (root / "texts" / f"{i}.txt").write_text("".join(f"text {i} says line {j}\n" for j in range(100)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        assert main(["train", "images", "--data", "pics", *TINY, "--seed", "5", "--out", "runs/seed5"]) == 0
        for name, words in (("book", ["--data", "book.txt"]), ("texts", ["--data", "texts"])):
            assert main(["train", "tiny", *words, *TEXT, "--seed", "5", "--out", f"runs/{name}"]) == 0
        more = ["--data", "book.txt", "--validation-data", "other.txt"]
        assert main(["train", "tiny", *more, *TEXT, "--out", "runs/two"]) == 0
        for name in ("seed5", "book", "texts", "two"):
            assert main(["pack", f"runs/{name}"]) == 0
    return root


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """A copy of it that a test may change, in a place of its own; its runs still mean the first one's data."""
    shutil.copytree(place, tmp_path / "place")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "place"


def measure(capsys, *words):
    """What `onebit evaluate` finds, and its notes."""
    capsys.readouterr()
    assert main(["evaluate", *map(str, words), "--json", "--threads", "1"]) == 0
    output = capsys.readouterr()
    return json.loads(output.out), output.err


def fails(capsys, words, *parts):
    capsys.readouterr()
    assert main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ")
    assert error.count("\n") == 1
    for part in parts:
        assert part in error, error


def same(one, other, keys=("accuracy", "images")):
    return [one[key] for key in keys] == [other[key] for key in keys] and one["loss"] == pytest.approx(
        other["loss"], rel=1e-3
    )


def test_a_packed_file_is_measured_on_the_runs_own_test_images(here, capsys):
    run, said = measure(capsys, here / "runs/seed5")
    assert said == ""
    assert (run["images"], run["part"]) == (4, "test")
    for data in (here / "pics", here.parent / "moved"):
        if not data.exists():
            shutil.copytree(here / "pics", data)
        for words in ([here / "runs/seed5.onebit", "--precision", "float32"], [here / "runs/seed5"]):
            found, said = measure(capsys, *words, "--data", data)
            assert said == ""
            assert found["part"] == "test"
            assert same(found, run)
    # and these are other images than those of seed 0
    ours, others = (load_images(str(here / "pics"), seed=seed).test.pixels for seed in (5, 0))
    assert not np.array_equal(ours, others)


def test_a_folder_that_has_changed_is_measured_whole_with_a_word(here, capsys):
    shutil.copy(here / "pics/cat/0.png", here / "pics/cat/new.png")
    for words in ([here / "runs/seed5.onebit"], [here / "runs/seed5"]):
        found, said = measure(capsys, *words, "--data", here / "pics")
        assert (found["images"], found["part"]) == (21, "all")
        assert said.count("\n") == 1
        assert "has changed since. All 21 images are measured and may include images from training" in said
    main(["evaluate", str(here / "runs/seed5.onebit"), "--data", str(here / "pics")])
    assert "on 21 images," in capsys.readouterr().out


def test_a_file_without_a_record_is_measured_on_all_with_a_word(here, capsys):
    model = load_model(here / "runs/seed5.onebit")
    assert model.training is not None
    object.__setattr__(model, "training", None)
    save_model(model, here / "old.onebit")
    found, said = measure(capsys, here / "old.onebit", "--data", here / "pics")
    assert (found["images"], found["part"]) == (20, "all")
    assert (
        "has no record of what it was trained on. All 20 images are measured and may include images from training"
        in said
    )


def test_a_test_part_is_what_is_measured_whatever_else_is_there(here, capsys):
    draw(here / "parts" / "train", 1)
    draw(here / "parts" / "test", 2, 3)
    found, said = measure(capsys, here / "runs/seed5.onebit", "--data", here / "parts")
    assert (found["images"], found["part"], said) == (6, "test", "")


def test_a_damaged_record_is_one_line(here, capsys):
    model = load_model(here / "runs/seed5.onebit")
    for value in ([1], 5, {}, {"data": 5}, model.training | {"share": 2.0}, model.training | {"seed": True}):
        object.__setattr__(model, "training", value)
        save_model(model, here / "bad.onebit")
        fails(capsys, ["evaluate", here / "bad.onebit", "--data", here / "pics"], "[training] ", "damaged")


def test_a_run_whose_images_have_changed_is_not_measured_on_trained_ones(place, tmp_path, capsys):
    data = shutil.copytree(place / "pics", tmp_path / "pics")
    words = ["train", "images", "--data", str(data), *TINY, "--out", str(tmp_path / "run")]
    assert main(words) == 0
    shutil.copy(data / "cat" / "0.png", data / "cat" / "new.png")
    fails(capsys, ["evaluate", tmp_path / "run"], f"{data} is not as it was when the network was trained", "--data")
    fails(capsys, [*words, "--resume", "--epochs", "2"], f"data={data}, and that has changed since")
    (data / "cat" / "new.png").unlink()
    assert measure(capsys, tmp_path / "run")[0]["images"] == 4


def test_a_run_finds_its_data_from_any_place_and_takes_no_other(place, tmp_path, monkeypatch, capsys):
    own, _ = measure(capsys, place / "runs/seed5")
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "pics", 9, 7)  # of the same name, and not the same
    assert same(measure(capsys, place / "runs/seed5")[0], own)
    assert main(["verify", str(place / "runs/seed5.onebit"), str(place / "runs/seed5")]) == 0
    assert main(["plot", "run", str(place / "runs/seed5"), "--out", "a.png"]) == 0
    recipe = load_run(place / "runs/seed5").recipe
    assert recipe.data.source == str(place / "pics")
    monkeypatch.chdir(place / "runs")
    words = ["train", "images", "--data", "../pics", *TINY, "--seed", "5", "--out", "seed5", "--resume"]
    assert main(words) == 0
    monkeypatch.chdir(tmp_path)
    words = ["train", "images", "--data", "pics", *words[4:-2], str(place / "runs/seed5"), "--resume"]
    fails(capsys, words, f"data={place / 'pics'}, and {tmp_path / 'pics'} is another")


@pytest.mark.parametrize("command", ["evaluate", "verify"])
def test_a_folder_of_the_name_of_a_runs_data_set_is_not_taken_for_it(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--widths", "4", "--epochs", "1", "--threads", "1", "--quiet", "--out", "a"]) == 0
    assert main(["pack", "a"]) == 0
    words = ["evaluate", "a"] if command == "evaluate" else ["verify", "a.onebit", "a"]
    assert main(words) == 0
    for part in ("train", "test"):
        draw(tmp_path / "digits" / part, 0, 2, ("0", "1"))
    fails(
        capsys, words, "was trained on the data set digits, and a folder of that name", "goes before it here", "--data"
    )


def test_data_that_were_moved_are_named_and_taken_from_their_new_place(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "old").mkdir()
    shutil.copytree(place / "pics", tmp_path / "old" / "pics")
    monkeypatch.chdir(tmp_path / "old")
    assert main(["train", "images", "--data", "pics", *TINY, "--seed", "5", "--out", "run"]) == 0
    assert main(["pack", "run"]) == 0
    own, _ = measure(capsys, "run")
    (tmp_path / "old").rename(tmp_path / "new")
    run, was = tmp_path / "new" / "run", tmp_path / "old" / "pics"
    for words in (["evaluate", run], ["verify", run.with_suffix(".onebit"), run]):
        fails(capsys, words, f"[{run}] was trained with data={was}, which is not there: give the data with --data PATH")
        assert main([*map(str, words), "--data", str(tmp_path / "new" / "pics")]) == 0
    assert same(measure(capsys, run, "--data", tmp_path / "new" / "pics")[0], own)
    again = ["train", "images", *TINY, "--seed", "5", "--out", str(run), "--resume", "--data"]
    assert main([*again, str(tmp_path / "new" / "pics")]) == 0
    assert same(measure(capsys, run)[0], own)


def test_teachers_and_runs_to_start_from_are_found_from_any_place(place, tmp_path, monkeypatch, capsys):
    shutil.copytree(place / "pics", tmp_path / "pics")
    monkeypatch.chdir(tmp_path)
    assert main(["train", "images", "--data", "pics", *TINY, "--out", "base"]) == 0
    words = ["train", "images", "--data", "pics", *TINY, "--teacher", "base", "--warm-start", "base", "--out", "taught"]
    assert main(words) == 0
    recipe = load_run("taught").recipe
    assert recipe.teacher.run == recipe.model.warm_start == str(tmp_path / "base")
    shutil.copytree(place / "runs/seed5", tmp_path / "elsewhere" / "base")
    monkeypatch.chdir(tmp_path / "elsewhere")
    up = [f"../{word}" if word in ("pics", "base", "taught") else word for word in words]
    assert main([*up, "--resume"]) == 0
    other = ["base" if word == "../base" else word for word in up]
    fails(
        capsys, [*other, "--resume"], f"teacher={tmp_path / 'base'}, and {tmp_path / 'elsewhere' / 'base'} is another"
    )


def test_a_key_that_differs_is_named(place, capsys):
    words = ["train", "images", "--data", place / "pics", *TINY, "--seed", "5", "--out", place / "runs/seed5"]
    fails(capsys, [*words, "--resume", "--widths", "8"], "another recipe: widths=(4,), and not (8,)")


def test_a_run_of_an_older_onebit_says_what_it_takes_for_its_data(here, monkeypatch, capsys):
    run = here / "runs/seed5"
    (run / "data.json").unlink()
    recipe = (run / "recipe.yaml").read_text().split("\n")
    (run / "recipe.yaml").write_text("\n".join("  source: pics" if "source:" in line else line for line in recipe))
    fails(capsys, ["evaluate", run], "was trained with data=pics, which is not there: give the data with --data PATH")
    monkeypatch.chdir(here)
    found, said = measure(capsys, run)
    assert found["images"] == 4
    assert f"has no record of its data: {here / 'pics'} is taken for it, as it is now" in said


@pytest.mark.parametrize("name", ["book", "texts"])
def test_a_packed_language_model_is_measured_on_the_text_that_was_set_aside(here, capsys, name):
    source = here / {"book": "book.txt", "texts": "texts"}[name]
    own, said = measure(capsys, here / f"runs/{name}")
    assert said == ""
    for words in ([here / f"runs/{name}.onebit", "--precision", "float32"], [here / f"runs/{name}"]):
        found, said = measure(capsys, *words, "--data", source)
        assert "the model was trained on it. Its held-out part is measured" in said
        assert same(found, own, ("tokens",))
    changed = source if source.is_file() else source / "0.txt"
    changed.write_text(changed.read_text() + "and more\n")
    found, said = measure(capsys, here / f"runs/{name}.onebit", "--data", source)
    assert found["tokens"] > own["tokens"]
    assert "has changed since. All of it is measured and may include text from training" in said


def test_another_text_to_validate_on_is_known_again(here, capsys):
    own, said = measure(capsys, here / "runs/two")
    assert said == ""
    found, said = measure(capsys, here / "runs/two.onebit", "--precision", "float32", "--data", here / "other.txt")
    assert said == ""
    assert same(found, own, ("tokens",))
    _, said = measure(capsys, here / "runs/two.onebit", "--data", here / "book.txt")
    assert "the model was trained on all of it" in said


def test_a_text_run_whose_text_has_changed_says_so(place, tmp_path, capsys):
    text = shutil.copy(place / "book.txt", tmp_path / "book.txt")
    assert main(["train", "tiny", "--data", str(text), *TEXT, "--out", str(tmp_path / "run")]) == 0
    text.write_text(text.read_text() + "and more\n")
    _, said = measure(capsys, tmp_path / "run")
    assert f"{text} is not as it was when {tmp_path / 'run'} was trained" in said
    text.unlink()
    fails(capsys, ["evaluate", tmp_path / "run"], f"data={text}, which is not there")


@pytest.mark.parametrize(
    "words", [["images", "--data", "."], ["tiny", "--data", "."], ["tiny", "--validation-data", "."]]
)
def test_a_run_within_its_own_data_is_refused_before_it_becomes_a_class(place, tmp_path, monkeypatch, capsys, words):
    data = shutil.copytree(place / "pics", tmp_path / "pics")
    monkeypatch.chdir(data)
    fails(
        capsys, ["train", *words], f"would lie within its own data, {data}, and be read with them", "give another --out"
    )
    assert sorted(entry.name for entry in data.iterdir()) == ["cat", "dog"]
    if words[0] == "images":
        fails(capsys, ["reproduce", "table2", "--scale", "0.001", "--data", "."], "would lie within its own data")
        for part in ("train", "test"):
            shutil.copytree(place / "pics", data / part)
        assert main(["train", *words, *TINY]) == 0  # only train/ and test/ are read
        assert main(["evaluate", "runs/images"]) == 0
