"""The commands on text as a user types them, and every error that a user can provoke."""

import io
import json
import re
import subprocess
import sys

import pytest

import onebit
from onebit.cli.main import main
from onebit.fileformat import load_model
from onebit.nn.binary import binary_layers
from onebit.training import load_run

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "book.txt"
    path.write_text("".join(f"It was night number {i % 10}, and the cat sat on the mat.\n" for i in range(800)))
    return path


@pytest.fixture(scope="module", params=["binary", "float"])
def run_folder(tmp_path_factory, book, request):
    out = tmp_path_factory.mktemp("runs") / request.param
    keys = "--vocabulary 300 --context 32 --blocks 1 --features 32 --heads 2 --head 32 --epochs 2 --epoch-steps 25 --batch-size 8"
    words = ["train", "tiny", "--data", str(book), "--out", str(out), *keys.split(), "--threads", "1", "--quiet"]
    assert main([*words, "--binary", str(request.param == "binary").lower(), "--warmup", "5"]) == 0
    return out


@pytest.fixture(scope="module")
def packed(run_folder):
    assert main(["pack", str(run_folder)]) == 0
    return run_folder.with_suffix(".onebit")


def fails(capsys, words, message, status=1):
    """The command fails with one line that holds `message`."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == status
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_train_pack_generate(packed, capsys):
    capsys.readouterr()
    assert main(["generate", str(packed), "It was", "--max-new-tokens", "12", "--temperature", "0"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("It was")
    assert text == "It was" + "".join(onebit.load(packed).generate("It was", 12, temperature=0)) + "\n"


def test_a_prompt_beyond_the_context_is_said(packed, capsys):
    capsys.readouterr()
    assert main(["generate", str(packed), "It was " * 60, "--max-new-tokens", "3"]) == 0
    assert "the model's context is 32: it sees only the end of the prompt" in capsys.readouterr().err


def test_generate_for_programs(packed, capsys):
    capsys.readouterr()
    assert (
        main(["generate", str(packed), "It was", "--max-new-tokens", "12", "--seed", "1", "--json", "--threads", "1"])
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["prompt"] == "It was"
    assert result["text"] == "".join(onebit.load(packed).generate("It was", 12, seed=1))
    assert len(result["tokens"]) == result["new_tokens"] <= 12
    assert result["seconds"] > 0 and result["tokens_per_second"] > 0
    assert result["first_token_ms"] > 0
    assert (result["precision"], result["threads"]) == ("int8", 1)


def test_generate_and_evaluate_with_an_int8_cache(packed, run_folder, book, capsys):
    capsys.readouterr()
    assert main(["generate", str(packed), "It was", "--max-new-tokens", "5", "--cache", "int8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cache"] == "int8"
    perplexity = []
    for more in ([], ["--cache", "int8"]):
        assert main(["evaluate", str(packed), "--data", str(book), "--json", *more]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["numerics"] == ("engine int8, int8 cache" if more else "engine int8")
        perplexity.append(result["perplexity"])
    assert perplexity[1] == pytest.approx(perplexity[0], rel=0.01)
    fails(capsys, ["evaluate", run_folder, "--cache", "int8"], "--cache applies to packed files only")
    words = ["generate", packed, "It", "--precision", "float32", "--cache", "int8"]
    fails(capsys, words, "precision='float32' keeps its cache in float32")


def test_generate_chats_line_by_line(packed, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("It was\nThe cat\n\nnever read\n"))
    capsys.readouterr()
    assert main(["generate", str(packed), "--max-new-tokens", "5", "--temperature", "0"]) == 0
    session = onebit.load(packed)
    expected = [p + "".join(session.generate(p, 5, temperature=0)) for p in ("It was", "The cat")]
    assert capsys.readouterr().out == "\n".join(expected) + "\n"


def test_generate_streams_and_needs_no_pytorch(packed):
    code = (
        "import sys; from onebit.cli.main import main; status = main(sys.argv[1:]); "
        "print(sorted({'torch', 'lightning', 'datasets'} & set(sys.modules))); sys.exit(status)"
    )
    words = ["generate", str(packed), "It", "--max-new-tokens", "5"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_evaluate_gives_the_same_figures_for_both_forms(packed, run_folder, book, capsys):
    capsys.readouterr()
    figures = []
    for words in (
        [str(run_folder), "--data", str(book)],
        [str(packed), "--data", str(book), "--precision", "float32"],
        [str(packed), "--data", str(book)],
    ):
        assert main(["evaluate", *words, "--json"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    trained, float32, int8 = figures
    for key in ("tokens", "tokenizer", "context", "data"):
        assert trained[key] == float32[key] == int8[key]
    for key in ("loss", "perplexity", "bits_per_byte", "accuracy"):
        assert trained[key] == pytest.approx(float32[key], rel=1e-3)
        assert trained[key] == pytest.approx(int8[key], rel=0.05)
    assert int8["perplexity"] == pytest.approx(float32["perplexity"], rel=0.01)


def test_evaluate_from_python(packed, run_folder, book):
    trained, file = onebit.evaluate(run_folder, book), onebit.evaluate(packed, book, precision="float32")
    assert (trained.tokens, trained.numerics) == (file.tokens, "PyTorch float32")
    assert file.bits_per_byte == pytest.approx(trained.bits_per_byte, rel=1e-3)
    assert file.notes and "note" not in str(file)
    assert file.to_dict()["perplexity"] == file.perplexity
    assert "padded_perplexity_not_comparable" not in file.to_dict()


def test_evaluate_of_a_run_is_on_what_was_set_aside(run_folder, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run_folder)]) == 0
    output = capsys.readouterr().out
    result = load_run(run_folder).result()
    assert f"{result['validation_bits_per_byte']:.4f} bits per byte" in output
    assert f"on {result['validation_tokens']:,} tokens" in output
    assert re.search(r"tokenizer: WordPiece over bytes, \d+ tokens; context: 32 tokens; padding is not counted", output)


def test_verify_finds_the_packed_file_equal(packed, run_folder, capsys):
    capsys.readouterr()
    assert main(["verify", str(packed), str(run_folder), "--limit", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    rows = {row["computed by"]: row for row in result["comparisons"]}
    assert set(rows) == {
        f"{by} {precision}{how}"
        for by, hows in (("NumPy", [""]), ("engine", ["", ", token by token"]))
        for precision in ("float32", "int8")
        for how in hows
    }
    assert all(row["relative"] < 1e-4 for name, row in rows.items() if "float32" in name)
    assert rows["engine int8"]["compared"] == 3 * 32


def test_info(packed, run_folder, capsys):
    capsys.readouterr()
    assert main(["info", str(packed), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    trained = load_run(run_folder)
    parameters = sum(p.numel() for p in trained.model.parameters())
    # Every weight of a decoder of the form best is a bit, and its norms and the biases of its layers are floats.
    weights = sum(layer.weight.numel() for layer in binary_layers(trained.model).values())
    assert result["bit_parameters"] == weights
    assert (weights > 0.95 * parameters) == trained.recipe.model.binary
    assert result["task"]["vocabulary_size"] == len(trained.task.vocabulary)
    assert main(["info", str(packed)]) == 0
    assert "32 tokens" in capsys.readouterr().out


def test_the_file_is_all_that_is_needed(packed, tmp_path, capsys):
    alone = tmp_path / "alone.onebit"
    alone.write_bytes(packed.read_bytes())
    assert main(["generate", str(alone), "It", "--max-new-tokens", "3"]) == 0
    assert load_model(alone).task["kind"] == "text-generation"


def test_a_recipe_of_one_kind_refuses_data_of_the_other(book, tmp_path, capsys):
    fails(capsys, ["train", "images", "--data", book, "--out", tmp_path / "a"], "")
    fails(capsys, ["train", "tiny", "--widths", "3"], "unknown key 'widths'")


def test_errors(packed, run_folder, book, tmp_path, capsys):
    fails(capsys, ["generate", packed, "It", "--temperature", "-1"], "temperature=-1.0: use 0")
    fails(capsys, ["generate", packed, "It", "--top-k", "0"], "top_k=0: use an integer from 1 up")
    fails(capsys, ["generate", packed, "It", "--top-p", "2"], "top_p=2.0: use a number above 0, at most 1")
    fails(capsys, ["generate", packed, "It", "--max-new-tokens", "0"], "max_new_tokens=0")
    fails(capsys, ["generate", packed, "It was " * 50, "--overflow", "stop"], "the model's context is 32")
    fails(capsys, ["generate", packed, "--json"], "--json needs a PROMPT")
    fails(capsys, ["generate", tmp_path / "none.onebit", "It"], "no such file")
    fails(capsys, ["classify", packed, book], "is not an image network: use generate")
    fails(capsys, ["evaluate", packed], "give --data")
    fails(capsys, ["evaluate", packed, "--data", tmp_path / "nothing"], "no such file or folder")
    fails(capsys, ["verify", packed, run_folder, "--limit", "0"], "use 1 or more")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"\0" * 100)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[SEP]\nthe\n")
    out = ["--out", tmp_path / "r"]
    fails(capsys, ["train", "tiny", "--data", tmp_path / "empty.txt", *out], "contains no text: it is empty")
    fails(capsys, ["train", "tiny", "--data", tmp_path / "binary.txt", *out], "binary.txt is binary")
    fails(capsys, ["train", "tiny", "--data", book, "--vocabulary", tmp_path / "vocab.txt", *out], "has no [UNK]")
    fails(capsys, ["train", "tiny", "--data", book, "--vocabulary", "5", *out], "vocabulary=5: use 259 or more")
    fails(capsys, ["train", "tiny", "--data", book, "--out", run_folder], "is not empty")


def test_generate_refuses_a_packed_network_of_images(tmp_path, capsys):
    task = onebit.ImageTask(("a", "b"), (8, 8))
    onebit.pack(onebit.models.conv_classifier(3, 2, (4,)), tmp_path / "images.onebit", task)
    fails(capsys, ["generate", tmp_path / "images.onebit", "It"], "this model is not a language model: use classify")


def test_invalid_utf8_is_said(packed, book, tmp_path, capsys):
    path = tmp_path / "latin.txt"
    path.write_bytes(book.read_bytes()[:3000] + "señor\n".encode("latin-1"))
    capsys.readouterr()
    assert main(["evaluate", str(packed), "--data", str(path)]) == 0
    assert "invalid UTF-8 was replaced in 1 places" in capsys.readouterr().err
