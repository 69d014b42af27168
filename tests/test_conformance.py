"""Both checkers of programs and files give the messages in tests/conformance. engine/tests/conformance_tests.cpp also tests the engine's."""

import copy
import json
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from onebit.errors import FormatError
from onebit.fileformat import load_model
from onebit.program import Program

FOLDER = Path(__file__).parent / "conformance"
FILES = sorted(path.name for path in FOLDER.glob("*.json"))
DTYPES = {"U8": np.uint8, "I8": np.int8, "F16": np.float16, "F32": np.float32}


def read(name):
    content = json.loads((FOLDER / name).read_text())
    return [(f"{i}: {case['name']}", made(content["base"], case)) for i, case in enumerate(content["cases"])]


def made(base, case):
    """A case's document: the base with its changes; the texts of its parts with what is inserted."""
    document = copy.deepcopy(base)
    for path, value in case.get("change", {}).items():
        *keys, last = path.split("/")
        node = document
        for key in keys:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[int(last) if isinstance(node, list) else last] = value
    for path in case.get("remove", []):
        *keys, last = path.split("/")
        node = document
        for key in keys:
            node = node[int(key)] if isinstance(node, list) else node[key]
        del node[last]
    document |= {key: value for key, value in case.items() if key not in ("name", "change", "remove")}
    insert = document.get("insert")
    if isinstance(insert, list):
        insert = "".join(text * times for text, times in insert)
    for key in ("program_text", "task_text", "header_text"):
        if insert is not None and key in document:
            document[key] = document[key].replace("@", insert)
    return document


def program_of(document):
    return document["program_text"] if "program_text" in document else json.dumps(document["program"])


def tensors_of(document):
    return {
        name: np.full(np.prod(t["shape"], dtype=int) * np.dtype(DTYPES[t["dtype"]]).itemsize, t.get("fill", 0), np.uint8)
        .view(DTYPES[t["dtype"]])
        .reshape(t["shape"])
        for name, t in document["tensors"].items()
    }  # fmt: skip


def is_file(document):
    return any(key in document for key in ("task", "task_text", "header_text"))


def write(document, path):
    data = b"" if "header_text" in document else b"".join(t.tobytes() for t in tensors_of(document).values())
    if "header_text" in document:
        header = document["header_text"]
    else:
        task = document["task_text"] if "task_text" in document else json.dumps(document["task"])
        entries = {"__metadata__": {"onebit_format": "1", "program": program_of(document), "task": task}}
        more = document.get("more", {})
        entries["__metadata__"] |= {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in more.items()
        }
        end = 0
        for name, tensor in tensors_of(document).items():
            end += tensor.nbytes
            place = {"data_offsets": [end - tensor.nbytes, end]}
            entries[name] = {"dtype": document["tensors"][name]["dtype"], "shape": list(tensor.shape), **place}
        header = json.dumps(entries)
    text = header.encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data + bytes(document.get("data", 0)))


def test_the_folder_is_what_its_generator_writes():
    texts = runpy.run_path(str(FOLDER / "generate.py"))["files"]()
    assert texts == {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert sum(map(len, texts.values())) < 500_000


def judge(name, check):
    """Run a check on each case; what it says must hold the case's words, all on one line."""
    wrong = []
    for label, document in read(name):
        words = document.get("words", [])
        try:
            check(document)
        except ValueError as error:
            said = str(error)
            if not words or any(word not in said for word in words) or "\n" in said or len(said) > 1000:
                wrong.append(f"{label}: {words}: {said[:300]}")
        else:
            if words:
                wrong.append(f"{label}: {words}: accepted")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", FILES)
def test_the_checker_in_python(name, tmp_path):
    def check(document):
        if not is_file(document):
            Program.from_json(program_of(document)).shapes(tensors_of(document))
            return
        write(document, tmp_path / "a.onebit")
        try:
            load_model(tmp_path / "a.onebit")
        except FormatError as error:
            assert str(error).startswith(f"[{tmp_path / 'a.onebit'}] ")
            raise
        with safe_open(tmp_path / "a.onebit", framework="numpy") as file:  # what we take, safetensors takes
            assert file.metadata()["onebit_format"] == "1"

    judge(name, check)


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(("task", "frame", "planes"))])
def test_the_checker_of_the_engine(name):
    engine = pytest.importorskip("onebit._engine")

    def check(document):
        text = program_of(document)
        runner = engine.Decoder if '"kind": "tokens"' in text else engine.Engine
        runner(text, tensors_of(document), "float32", 1)

    judge(name, check)


def test_the_task_is_judged_alike_by_info_and_load(tmp_path, capsys):
    onebit = pytest.importorskip("onebit")
    pytest.importorskip("onebit._engine")
    from onebit.cli.main import main

    for name in ("task_images.json", "task_texts.json"):
        for _, document in read(name)[:2] + read(name)[8:60:10]:
            write(document, tmp_path / "a.onebit")
            code = main(["info", str(tmp_path / "a.onebit")])
            said = capsys.readouterr().err
            if "words" not in document:
                assert code == 0
                onebit.load(tmp_path / "a.onebit", threads=1)
                continue
            assert code != 0
            with pytest.raises(FormatError) as caught:
                onebit.load(tmp_path / "a.onebit", threads=1)
            assert said == f"onebit: error: {caught.value}\n"
