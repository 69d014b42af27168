"""The C library, installed and found in the way of a user: compare its examples with the Python sessions."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import onebit
from onebit.models import conv_classifier, language_decoder
from onebit.packing import pack
from onebit.text import train_vocabulary

ROOT = Path(__file__).parents[1]
# Beside the interpreter first: a virtual environment's cmake is there even where it was not activated.
SEARCH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _usable_cmake():
    cmake = shutil.which("cmake", path=SEARCH)
    if cmake is None:
        return None
    found = re.search(
        r"version (\d+)\.(\d+)", subprocess.run([cmake, "--version"], capture_output=True, text=True).stdout
    )
    return cmake if found and (int(found[1]), int(found[2])) >= (3, 26) else None


CMAKE = _usable_cmake()
COMPILER = shutil.which(os.environ.get("CC", "cc"), path=SEARCH)
pytestmark = [
    pytest.mark.skipif(CMAKE is None, reason="needs cmake 3.26 or later"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
    pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="needs the repository"),
]


def run(*command, **options):
    """The output of a command that must succeed."""
    environment = os.environ | {"PATH": SEARCH} | options.pop("environment", {})
    done = subprocess.run([str(part) for part in command], capture_output=True, env=environment, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout.decode()}\n{done.stderr.decode()}"
    return done.stdout


def build(source, folder, *options):
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=SEARCH) else []
    run(CMAKE, "-S", source, "-B", folder, *generator, "-DCMAKE_BUILD_TYPE=Release", *options)
    return run(CMAKE, "--build", folder, "--parallel")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the C library is installed."""
    folder = tmp_path_factory.mktemp("c")
    build(ROOT, folder / "build", "-DONEBIT_BUILD_PYTHON=OFF")
    run(CMAKE, "--install", folder / "build", "--prefix", folder / "prefix", "--strip")
    return folder / "prefix"


@pytest.fixture(scope="module", params=["shared", "static"])
def examples(request, installed, tmp_path_factory):
    """The folder with the examples, each linked to the shared or to the static library."""
    folder = tmp_path_factory.mktemp("examples")
    static = "ON" if request.param == "static" else "OFF"
    printed = build(
        ROOT / "examples/c", folder, f"-DCMAKE_PREFIX_PATH={installed}", f"-DEXAMPLES_STATIC={static}"
    )  # fmt: skip
    assert b"warning" not in printed
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("packed") / "classifier.onebit"
    pack(conv_classifier(3, 3, (16, 24)), path, onebit.ImageTask(("ant", "bee", "a größeres Tier"), (12, 10)))
    return path


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    torch.manual_seed(0)
    task = train_vocabulary(["the cat sat on the mat, and the dog sat on the cat; wörter 😀!\n" * 50], 300)
    model = language_decoder(
        {"vocabulary": len(task.vocabulary), "context": 48, "blocks": 2, "features": 32, "heads": 4, "head": (32, 32)},
        residual_scale=0.35, logit_scale=3.0,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("packed") / "decoder.onebit"
    pack(model, path, task)
    return path


def test_the_example_classifies_as_python_does(examples, classifier, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    (tmp_path / "pixels.raw").write_bytes(pixels.tobytes())
    lines = run(examples / "classify", classifier, tmp_path / "pixels.raw").decode().splitlines()
    printed = [(label, float(probability)) for probability, label in (line.split(" ", 1) for line in lines)]
    (expected,) = onebit.load(classifier).classify([pixels])
    assert [label for label, _ in printed] == [label for label, _ in expected]
    np.testing.assert_allclose([p for _, p in printed], [p for _, p in expected], atol=2e-6)


def test_the_example_prints_no_label_that_commands_a_terminal(examples, tmp_path):
    torch.manual_seed(0)
    labels = ("\x1b[2Jcat", "d\u009bog", "größer\n")
    pack(conv_classifier(3, 3, (16, 24)), tmp_path / "a.onebit", onebit.ImageTask(labels, (12, 10)))
    (tmp_path / "pixels.raw").write_bytes(bytes(12 * 10 * 3))
    lines = run(examples / "classify", tmp_path / "a.onebit", tmp_path / "pixels.raw").decode().split("\n")
    assert sorted(line.partition(" ")[2] for line in lines[:-1]) == ["?[2Jcat", "d?og", "größer?"]


@pytest.mark.parametrize("prompt", ["", "the cat", "and wörter 😀", "\x01 漢字", "the cat sat on the mat, " * 20])
def test_the_example_writes_as_python_does(examples, decoder, prompt):
    session = onebit.load(decoder)
    ids = [session.tokenizer.separator, *session.tokenizer.encode(prompt)][-session.context :]
    with (
        session.sequence() as sequence
    ):  # the example forgets nothing, as "stop" does, and cuts a long prompt, as "slide" does
        expected, logits = [], sequence.feed(ids)
        while len(expected) < 60 and len(ids) + len(expected) <= session.context:
            logits[[session.tokenizer.pad, session.tokenizer.unknown]] = -np.inf
            token = int(logits.argmax())
            if token == session.tokenizer.separator:
                break
            expected.append(token)
            if len(ids) + len(expected) <= session.context:
                logits = sequence.feed([token])
    assert expected
    text = run(examples / "generate", decoder, 60, prompt)
    assert text.decode("utf-8", "replace") == session.tokenizer.decode(expected) + "\n"


def test_the_examples_say_what_is_wrong(examples, classifier, decoder, tmp_path):
    def error(program, *arguments):
        done = subprocess.run([examples / program, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 1
        return done.stderr

    (tmp_path / "pixels.raw").write_bytes(bytes(10))
    cut = tmp_path / "cut.onebit"
    cut.write_bytes(classifier.read_bytes()[:-1])
    assert "usage: classify" in error("classify")
    assert "no such file" in error("classify", tmp_path / "none.onebit", tmp_path / "pixels.raw")
    assert "cut.onebit] is truncated" in error("classify", cut, tmp_path / "pixels.raw")
    assert "give a file of 360 bytes (12 x 10 pixels of 3 channels)" in error(
        "classify", classifier, tmp_path / "pixels.raw"
    )
    assert "is not a classifier" in error("classify", decoder, tmp_path / "pixels.raw")
    assert "usage: generate" in error("generate", decoder, 0)
    assert "usage: generate" in error("generate", decoder, 5, "one", "two")
    assert "no '[SEP]'" in error("generate", classifier, 5)


def test_only_the_api_is_exported(installed):
    nm = shutil.which("nm", path=SEARCH)
    if nm is None:
        pytest.skip("needs nm")
    (library,) = installed.glob("lib*/libonebit.so")
    names = {line.split()[-1] for line in run(nm, "-D", "--defined-only", library).decode().splitlines()}
    header = (installed / "include/onebit/onebit.h").read_text()
    assert names == set(re.findall(r"^ONEBIT_API [^(]*?(\w+)\(", header, re.MULTILINE))
    assert library.stat().st_size < 1_900_000


def test_a_program_can_be_built_with_pkg_config(installed, classifier, tmp_path):
    pkg_config = shutil.which("pkg-config", path=SEARCH)
    if pkg_config is None:
        pytest.skip("needs pkg-config")
    (folder,) = installed.glob("lib*/pkgconfig")
    flags = (
        run(pkg_config, "--cflags", "--libs", "onebit", environment={"PKG_CONFIG_PATH": str(folder)}).decode().split()
    )
    run(COMPILER, "-std=c99", ROOT / "examples/c/classify.c", *flags, "-lm", "-o", tmp_path / "classify")
    (tmp_path / "pixels.raw").write_bytes(bytes(360))
    printed = run(
        tmp_path / "classify", classifier, tmp_path / "pixels.raw", environment={"LD_LIBRARY_PATH": str(folder.parent)}
    )
    assert len(printed.splitlines()) == 3


def test_the_header_is_clean_in_c_and_in_cpp(installed, tmp_path):
    for name, standard in (("a.c", "c99"), ("a.cpp", "c++11")):
        (tmp_path / name).write_text("#include <onebit/onebit.h>\nint main(void) { return onebit_version() == 0; }\n")
        warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        run(COMPILER, f"-std={standard}", *warnings, f"-I{installed / 'include'}", "-fsyntax-only", tmp_path / name)


def test_the_examples_of_the_documentation_run(installed, classifier, decoder, tmp_path):
    image, text, exact = re.findall(r"```c\n(.*?)```", (ROOT / "docs/c.md").read_text("utf-8"), re.DOTALL)
    (folder,) = installed.glob("lib*")

    def printed(code, main):
        (tmp_path / "a.c").write_text(f"{code}\nint main(int argc, char** argv) {{ (void)argc; {main} }}\n", "utf-8")
        flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{installed / 'include'}", f"-L{folder}"]
        run(COMPILER, *flags, tmp_path / "a.c", "-lonebit", f"-Wl,-rpath,{folder}", "-o", tmp_path / "a")
        return lambda path: run(tmp_path / "a", path).decode("utf-8", "replace")

    classify = printed(image, "unsigned char pixels[360] = {0}; return most_probable(argv[1], pixels, 360) < 0;")
    (answers,) = onebit.load(classifier).classify([np.zeros((12, 10, 3), np.uint8)])
    assert classify(classifier) == answers[0][0] + "\n"
    write = printed(text, 'onebit_model* m; return onebit_load(argv[1], NULL, &m) || write_text(m, "the cat", 20);')
    assert len(write(decoder)) > 10
    assert write(decoder) == write(decoder)
    load = printed(exact, "onebit_model* m; int status = load_exact(argv[1], &m); onebit_free(m); return status;")
    assert load(classifier) == ""
