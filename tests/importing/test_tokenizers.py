"""Tokenizers of foreign files: llama.cpp's reference strings, special tokens, templates, and what is refused."""

import json
import random
from pathlib import Path

import pytest
from gguf_files import gguf
from random_models import gguf_metadata, tokenizer, write_folder

from onebit.errors import DataError, ForeignModelError, FormatError
from onebit.importing.folder import read_folder
from onebit.importing.gguf import read_gguf
from onebit.importing.sentencepiece import read_sentencepiece
from onebit.importing.tokenizers import folder_task, gguf_task
from onebit.subwords import SubwordTask, SubwordTokenizer, pack_tokenizer, text_task, tokenizer_for, unpack_tokenizer

KNOWN = json.loads(Path(__file__).with_name("known_tokens.json").read_text())
SENTENCEPIECE = Path(__file__).with_name("sentencepiece.model")
FAMILIES = [name for name in KNOWN if name != "texts"]


def opened(tmp_path, values, **more):
    metadata = {f"tokenizer.ggml.{name}": value for name, value in values.items() if value is not None}
    (tmp_path / "v.gguf").write_bytes(gguf({"general.architecture": "llama"} | metadata | more))
    return read_gguf(tmp_path / "v.gguf")


def vocabulary(name):
    known = KNOWN[name]
    values = {"model": known["model"], "pre": known["pre"], "tokens": known["tokens"]}
    values |= {"token_type": [(5, kind) for kind in known["types"]], "merges": known.get("merges")}
    values |= {"scores": known["scores"]} if "scores" in known else {}
    return values | {"eos_token_id": (4, 0), "bos_token_id": (4, 1)}


@pytest.mark.parametrize("name", FAMILIES)
def test_reference_strings_have_their_tokens(tmp_path, name):
    task, notes = gguf_task(opened(tmp_path, vocabulary(name)), 1 << 20)
    made = SubwordTokenizer(task)
    texts = KNOWN[name].get("texts", KNOWN["texts"])
    assert len(texts) >= 46 and notes == ()
    assert [made.encode(text) for text in texts] == KNOWN[name]["ids"]
    if name != "qwen2":  # it composes characters first
        assert [made.decode(ids) for ids in KNOWN[name]["ids"]] == texts
    for text, ids in zip(texts, KNOWN[name]["ids"], strict=True):
        assert "".join(piece for _, piece in made.stream(ids)) == made.decode(ids), text


def test_a_packed_tokenizer_is_the_tokenizer():
    tree = tokenizer()
    packed = pack_tokenizer(tree)
    assert packed.count('"') < 120 and unpack_tokenizer(packed)["model"]["vocab"] == tree["model"]["vocab"]
    assert unpack_tokenizer(packed)["model"]["merges"] == [["h", "e"], ["he", "l"]]
    odd = tree | {"model": tree["model"] | {"vocab": {"a\nb": 0, "c": 1}, "merges": [["c", "a\nb"]]}}
    assert unpack_tokenizer(pack_tokenizer(odd))["model"] == odd["model"]


def test_special_tokens_begin_and_end_texts(tmp_path):
    values = vocabulary("llama-bpe") | {"add_bos_token": True, "eot_token_id": (4, 2)}
    task, _ = gguf_task(opened(tmp_path, values, **{"tokenizer.chat_template": "{{ bos_token }}"}), 1 << 20)
    assert task.starts == (1,) and task.separator == 1 and {0, 2} <= set(task.ends)
    assert task.chat_template == "{{ bos_token }}"
    again = text_task(json.loads(json.dumps(task.to_json())))
    assert again == task and tokenizer_for(again).starts == (1,)
    without, _ = gguf_task(opened(tmp_path, vocabulary("gpt-2") | {"bos_token_id": None}), 1 << 20)
    assert without.starts == () and without.separator == 0


def test_a_special_token_in_a_text_is_one_token(tmp_path):
    made = SubwordTokenizer(folder_task(read_folder(write_folder(tmp_path / "m", "qwen3"))))
    assert made.encode("a<|end|>") == [made.encode("a")[0], 256] and made.decode([256]) == "<|end|>"
    # A euro sign is three bytes, and comes out once it is whole.
    pieces = [piece for _, piece in made.stream(made.encode("\u20ac"))]
    assert pieces == ["", "", "\u20ac"]


FAULTS = {
    "no tokens": ({"tokens": None}, "tokenizer.ggml.tokens is missing or not a list of texts"),
    "tokens of numbers": ({"tokens": [1, 2]}, "tokenizer.ggml.tokens is missing or not a list of texts"),
    "no merges": ({"merges": None}, "merges is missing: byte-level BPE cannot cut a text without its merges"),
    "odd merges": ({"merges": ["a b c"]}, "merges holds 'a b c': needs two tokens that make a third"),
    "merges of nothing": ({"merges": ["xyzzy a"]}, "merges holds 'xyzzy a'"),
    "unknown model": ({"model": "t5"}, "tokenizer.ggml.model='t5': onebit reads gpt2"),
    "unknown pre": ({"pre": "viking"}, "tokenizer.ggml.pre='viking': onebit knows gpt-2"),
    "no pre": ({"pre": None}, "tokenizer.ggml.pre=None"),
    "types of few": ({"token_type": [(5, 1)]}, "token_type needs a number for each of"),
    "end outside": ({"eos_token_id": (4, 1 << 20)}, "eos_token_id=1048576: needs the number of a token"),
    "flag": ({"add_bos_token": 3}, "add_bos_token=3: needs true or false"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(tmp_path, name):
    change, message = FAULTS[name]
    with pytest.raises(ForeignModelError, match=message) as caught:
        gguf_task(opened(tmp_path, vocabulary("gpt-2") | change), 1 << 20)
    assert "\n" not in str(caught.value)


def test_more_tokens_than_rows_are_refused(tmp_path):
    with pytest.raises(ForeignModelError, match="tokens, the network 9: the file is damaged"):
        gguf_task(opened(tmp_path, vocabulary("gpt-2")), 9)


def test_no_end_and_a_long_template_are_refused(tmp_path):
    plain = {"model": "gpt2", "pre": "gpt-2", "tokens": ["a", "b", "ab"], "merges": ["a b"]}
    with pytest.raises(ForeignModelError, match="names no token that ends a text"):
        gguf_task(opened(tmp_path, plain), 3)
    with pytest.raises(ForeignModelError, match="chat template is not a text of at most 131072 characters"):
        gguf_task(opened(tmp_path, plain | {"eos_token_id": (4, 2)}, **{"tokenizer.chat_template": "x" * 200_000}), 3)


def test_folders_without_a_whole_tokenizer_are_refused(tmp_path):
    folder = write_folder(tmp_path / "m", "qwen3")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer() | {"model": {"type": "Unigram", "vocab": []}}))
    with pytest.raises(ForeignModelError, match=r"tokenizer.json\] .*a tokenizer of the type 'Unigram': only BPE"):
        folder_task(read_folder(folder))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ForeignModelError, match="is not JSON"):
        folder_task(read_folder(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ForeignModelError, match="tokenizer.json. is missing: save the tokenizer with"):
        folder_task(read_folder(folder))


def slow_folder(folder, content=None, **config):
    """A folder whose tokenizer is sentencepiece's own file, as Llama 2's first ones."""
    write_folder(folder, "llama")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(SENTENCEPIECE.read_bytes() if content is None else content)
    names = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return read_folder(folder)


def test_a_folder_with_sentencepieces_own_file_has_its_tokens(tmp_path):
    task = folder_task(slow_folder(tmp_path / "m"))
    made = SubwordTokenizer(task)
    known = json.loads(Path(__file__).with_name("known_sentencepiece.json").read_text())
    assert len(known) == len(KNOWN["texts"]) and sum(map(len, known)) > 700
    assert [made.encode(text) for text in KNOWN["texts"]] == known
    assert [made.decode(ids) for ids in known] == KNOWN["texts"]
    assert (task.starts, task.ends, task.separator) == ((1,), (2, 256), 1)  # config.json says 256
    assert made.encode("a</s>b")[1:2] == [2]
    added = {"500": {"content": "<|im_end|>", "special": True}, "2": {"content": "</s>", "special": True}}
    task = folder_task(slow_folder(tmp_path / "n", add_bos_token=False, added_tokens_decoder=added))
    assert task.starts == () and 500 in task.ends
    assert SubwordTokenizer(task).encode("<|im_end|>") == [500]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "tokenizer.model. has 0 bytes"),
        (b"\xff", "it ends within a number at byte 0"),
        (b"\xff" * 40, "a number of more than 10 bytes at byte 0"),
        (b"\x0b", "a field of the unknown kind 3 at byte 1"),
        (b"\x0a\x7f", "a field of 127 bytes at byte 2 of 2"),
        (b"\x08\x05", "a number where a text or a message belongs"),
        (b"\x0a\x02\x08\x05", "a number where a text or a message belongs"),
        (b"\x0a\x05\x0a\x01a\x1a\x00", "a text where a number belongs"),
        (b"\x0a\x06\x0a\x01a\x15\x00\x00", "a field of 4 bytes at byte"),
        (b"\x0a\x08\x0a\x01a\x15\x00\x00\xc0\x7f", "the score of 'a' is nan"),
        (b"\x0a\x03\x0a\x01\xff", "can't decode byte"),
        (b"\x12\x02\x18\x02", "pieces are missing, empty or stand twice"),
        (2 * b"\x0a\x03\x0a\x01a" + b"\x12\x02\x18\x02", "pieces are missing, empty or stand twice"),
        (b"\x0a\x03\x0a\x01a", "is of the kind unigram: onebit reads BPE"),
        (b"\x0a\x03\x0a\x01a\x12\x02\x18\x02", "changes characters or spaces before it cuts texts"),
        (SENTENCEPIECE.read_bytes()[:-3], "a field of"),
    ],
)
def test_damaged_files_of_sentencepiece(tmp_path, content, message):
    with pytest.raises(ForeignModelError, match=message) as caught:
        folder_task(slow_folder(tmp_path / "m", content))
    assert "\n" not in str(caught.value) and "tokenizer.model]" in str(caught.value)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"x": {"content": "a"}}, "names .* as 'x': needs numbers of tokens with texts"),
        ({"5": {}}, "needs numbers of tokens with texts"),
        ({"900000000": {"content": "a"}}, "adds the token 900000000, and not those before it"),
    ],
)
def test_added_tokens_that_are_none(tmp_path, added, message):
    with pytest.raises(ForeignModelError, match=message):
        folder_task(slow_folder(tmp_path / "m", added_tokens_decoder=added))


def test_damaged_bytes_of_sentencepieces_file_raise_nothing_else(tmp_path):
    from onebit.errors import OnebitError

    chance, content, read = random.Random(0), SENTENCEPIECE.read_bytes(), 0
    for _ in range(300):
        data = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "tokenizer.model").write_bytes(bytes(data[: chance.choice((None, chance.randrange(len(data))))]))
        try:
            read_sentencepiece(tmp_path / "tokenizer.model")
            read += 1
        except OnebitError as error:
            assert "\n" not in str(error)
    assert 0 < read < 300


def test_an_end_that_the_tokenizer_lacks_is_refused(tmp_path):
    folder = write_folder(tmp_path / "m", "qwen3")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, 5000]}))
    with pytest.raises(ForeignModelError, match="texts end with the token 5000, which the tokenizer does not have"):
        folder_task(read_folder(folder))


TASK = {"kind": "language-model", "tokenizer": "{}", "starts": [], "ends": [1], "separator": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": 3}, "tokenizer=3: needs a text"),
        ({"chat_template": []}, r"chat_template=\[\]: needs a text"),
        ({"ends": [-1]}, r"ends=\[-1\]: needs a list of tokens"),
        ({"starts": None}, "starts=None: needs a list of tokens"),
        ({"separator": 0.5}, "separator=0.5: needs a token"),
    ],
)
def test_a_wrong_task_is_refused(change, message):
    with pytest.raises(FormatError, match=message):
        text_task(TASK | change)


def test_a_damaged_tokenizer_is_refused():
    for text in ("", "[]", '{"model": 3}', '{"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}}'):
        with pytest.raises(FormatError, match="tokenizer"):
            tokenizer_for(text_task(TASK | {"tokenizer": text}))
    with pytest.raises(FormatError, match="names the token 9000 of 259"):
        tokenizer_for(text_task(TASK | {"tokenizer": pack_tokenizer(tokenizer()), "ends": [9000], "separator": 9}))
    with pytest.raises(DataError, match="token 259 is out of range"):
        tokenizer_for(SubwordTask(pack_tokenizer(tokenizer()), (), (1,), 1)).decode([259])


def test_metadata_of_the_random_models_is_whole(tmp_path):
    (tmp_path / "m.gguf").write_bytes(gguf(gguf_metadata("llama")))
    assert gguf_task(read_gguf(tmp_path / "m.gguf"), 300)[0].ends == (256,)
