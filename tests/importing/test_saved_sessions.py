"""Chats that are saved to a file and taken up again: what is not computed again, and files that do not fit."""

import io
import json

import numpy as np
import pytest
from random_models import write_folder
from safetensors.numpy import load_file, save_file

import onebit
from onebit.cli.main import main
from onebit.errors import DataError, FormatError
from onebit.importing import import_model

MESSAGES = [{"role": "user", "content": "hello, hello"}]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    write_folder(folder / "m", "qwen3")
    config = json.loads((folder / "m" / "tokenizer_config.json").read_text())
    template = "{% for m in messages %}{{ m.content }};{% endfor %}"
    (folder / "m" / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    import_model(folder / "m", folder / "m.onebit")
    return folder / "m.onebit"


def load(file, **options):
    return onebit.load(file, **{"precision": "float32", "threads": 1, **options})


@pytest.mark.parametrize("options", [{}, {"precision": "int8"}, {"precision": "int8", "cache": "int8"}], ids=str)
def test_another_process_goes_on_with_a_saved_chat(file, tmp_path, options):
    first = load(file, **options)
    said = first.write_chat(MESSAGES, 40, temperature=0)
    answered = [*MESSAGES, {"role": "assistant", "content": said.text}]
    size = first.save_state(tmp_path / "a.chat", answered)
    assert size == (tmp_path / "a.chat").stat().st_size
    second = load(file, **options)
    assert second.load_state(tmp_path / "a.chat") == answered
    more = [*answered, {"role": "user", "content": "and"}]
    expected, found = (session.write_chat(more, 40, temperature=0) for session in (first, second))
    assert found.tokens == expected.tokens
    assert found.shared_tokens == expected.shared_tokens >= said.prompt_tokens
    # It is what a session computes that reads everything.
    assert load(file, **options).write_chat(more, 40, temperature=0).tokens == found.tokens


def test_a_chat_of_one_token_and_one_of_the_whole_context_are_saved(file, tmp_path):
    session = load(file)
    for text in ("a", "b" * 120):
        messages = [{"role": "user", "content": text}]
        session.write_chat(messages, 500, temperature=0)
        session.save_state(tmp_path / "a.chat")
        other = load(file)
        assert other.load_state(tmp_path / "a.chat") == []
        assert other.prompt_cache.saved()[0] == session.prompt_cache.saved()[0]
        assert np.array_equal(other.prompt_cache.saved()[1], session.prompt_cache.saved()[1])


def test_nothing_to_save(file, tmp_path):
    with pytest.raises(DataError, match="there is no chat to save: answer messages with session.chat first"):
        load(file).save_state(tmp_path / "a.chat")
    assert not (tmp_path / "a.chat").exists()


@pytest.fixture(scope="module")
def saved(file, tmp_path_factory):
    session = load(file)
    session.write_chat(MESSAGES, 10, temperature=0)
    path = tmp_path_factory.mktemp("states") / "a.chat"
    session.save_state(path, MESSAGES)
    return path


def changed(saved, path, tensors=None, **metadata):
    """A copy with other tensors or other metadata."""
    from safetensors import safe_open

    with safe_open(saved, "numpy") as file:
        before = file.metadata()
    save_file(load_file(saved) if tensors is None else tensors, path, before | metadata)
    return path


def test_broken_files_are_one_clear_line(file, saved, tmp_path):
    content, target = saved.read_bytes(), tmp_path / "b.chat"
    tensors = load_file(saved)
    fewer = {"tokens": tensors["tokens"][:-1], "memory": tensors["memory"]}
    flipped = bytearray(content)
    flipped[-9] ^= 1
    cases = [
        (b"", "damaged: "),
        (b"no", "damaged: "),
        (content[:100], "damaged: "),
        (content[:-1], "damaged: "),
        (bytes(flipped), "damaged: its checksum is another; start a new session"),
        (b"\xff" * 8 + content[8:], "damaged: "),
        (file.read_bytes(), "is not a saved session: "),
    ]
    session = load(file)
    for broken, message in cases:
        target.write_bytes(broken)
        with pytest.raises(FormatError, match=message) as caught:
            session.load_state(target)
        assert str(target) in str(caught.value)
        assert "\n" not in str(caught.value)
    changed(saved, target, fewer)
    with pytest.raises(FormatError, match="its checksum is another"):
        session.load_state(target)
    changed(saved, target, {"tokens": tensors["tokens"]})
    with pytest.raises(FormatError, match="its tokens or its memory are missing"):
        session.load_state(target)
    with pytest.raises(FormatError, match="version '9': this onebit reads '1'"):
        session.load_state(changed(saved, target, onebit_state="9"))
    with pytest.raises(FormatError, match="no such file"):
        session.load_state(tmp_path / "none.chat")
    with pytest.raises(FormatError, match="is not a file"):
        session.load_state(tmp_path)


def test_bytes_that_do_not_fit_the_tokens_are_refused(file, saved, tmp_path, monkeypatch):
    """Somebody who knows the checksum may write any file."""
    monkeypatch.setattr("onebit.runtime.saved_state._checksum", lambda state, messages: "")
    tensors, session = load_file(saved), load(file)
    tokens, memory = tensors["tokens"], tensors["memory"]
    cases = [
        (tokens[:0], memory, "more bytes than its 0 tokens need"),
        (np.resize(tokens, 127), memory, "lacks bytes for its 127 tokens"),
        (np.resize(tokens, 5000), memory, "a state of 5000 tokens: the context is 128"),
        (tokens, memory[:-1], "lacks bytes for its"),
        (tokens, np.append(memory, np.uint8(0)), "more bytes than its"),
        (tokens + np.int32(1000), memory, "token .* is out of range"),
        (-tokens, memory, "is out of range"),
    ]
    for some, other, message in cases:
        path = changed(saved, tmp_path / "c.chat", {"tokens": some, "memory": other}, checksum="")
        with pytest.raises(FormatError, match=message):
            session.load_state(path)
    for messages in ("{", "5", "[5]", '[{"role": "user"}]', '[{"role": "user", "content": 5}]'):
        path = changed(saved, tmp_path / "c.chat", checksum="", messages=messages)
        with pytest.raises(FormatError, match="damaged: .*messages"):
            session.load_state(path)
    assert session._engine.open() == 0  # none was left open


def test_a_state_of_another_model_precision_or_cache_is_refused(file, saved, tmp_path):
    with pytest.raises(FormatError, match="was saved with precision 'float32', not 'int8': load it as then"):
        load(file, precision="int8").load_state(saved)
    write_folder(tmp_path / "m", "llama")
    import_model(tmp_path / "m", tmp_path / "m.onebit")
    with pytest.raises(FormatError, match="was saved with another model: load it as then, or start a new session"):
        load(tmp_path / "m.onebit").load_state(saved)


def test_the_command_goes_on_with_a_session(file, tmp_path, monkeypatch, capsys):
    words = ["chat", str(file), "--temperature", "0", "--max-new-tokens", "4", "--threads", "1"]
    words += ["--session", str(tmp_path / "a.chat")]

    def talk(text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code = main(words)
        return code, capsys.readouterr()

    assert talk("")[0] == 0
    assert not (tmp_path / "a.chat").exists()
    assert talk("hello\n")[0] == 0
    assert talk(f"again\n/save {tmp_path / 'a.json'}\n")[0] == 0
    said = [m["content"] for m in json.loads((tmp_path / "a.json").read_text()) if m["role"] == "user"]
    assert said == ["hello", "again"]
    (tmp_path / "a.chat").write_bytes(b"broken")
    code, output = talk("hello\n")
    assert code == 1
    assert output.err.startswith(f"onebit: error: [{tmp_path / 'a.chat'}] damaged: ")
    assert output.err.count("\n") == 1
    assert (tmp_path / "a.chat").read_bytes() == b"broken"  # not written over
