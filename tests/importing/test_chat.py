"""Chats: templates as transformers renders them, messages, what is computed again, and the command."""

import io
import json
import os
from pathlib import Path

import pytest
from random_models import write_folder

import onebit
from onebit.chat_template import _renderer, render
from onebit.cli.main import main
from onebit.errors import DataError, OnebitError
from onebit.importing import import_model
from onebit.runtime.chat import Chat

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nHelp.<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BITNET = (
    "{{ bos_token }}{% for m in messages %}{% if loop.index0 > 5 %}{% break %}{% endif %}{{ m['role'] | capitalize + ': ' + "
    "m['content'] | trim + '<|eot_id|>' }}{% endfor %}\n{{ messages | tojson }}\n{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
MESSAGES = [
    {"role": "user", "content": "a <b> & 'c' \u20ac"},
    {"role": "assistant", "content": " x "},
    {"role": "user", "content": "y"},
]


@pytest.mark.parametrize("template", [CHATML, BITNET])
@pytest.mark.parametrize("messages", [MESSAGES, [{"role": "system", "content": "s"}, *MESSAGES]])
def test_a_template_is_rendered_as_transformers_does(template, messages):
    utilities = pytest.importorskip("transformers.utils.chat_template_utils")
    known = utilities.render_jinja_template(
        conversations=[messages], chat_template=template, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert render(template, messages, {"bos_token": "<s>", "eos_token": "</s>"}) == known[0][0]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for i in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "writes more than 1048576 characters"),
        ("{{ raise_exception('roles must\nalternate') }}", "refuses these messages: roles must alternate"),
        ("{% if %}", "does not work: "),
        ("{{ messages[9].content }}", "does not work: "),
        ("{{ ''.__class__.__mro__ }}", "does not work: "),
        ("{{ messages.append(1) }}", "does not work: "),
        ("{{ 1 / 0 }}", "does not work: "),
        ("{% for m in messages %}" * 30 + "{% endfor %}" * 30, "does not work: too many statically nested blocks"),
    ],
)
def test_bad_templates(template, message):
    with pytest.raises(DataError, match=message) as caught:
        render(template, MESSAGES)
    assert "\n" not in str(caught.value)


TWICE = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
            "takes more than .* seconds",
        ),
        (TWICE, "takes more than .* seconds"),
        ("{{ 9 ** (9 ** 9) % 7 }}", "takes more than .* seconds"),
        ("{{ 'x' * 9999999999 }}", "takes too much memory"),
        ("{{ 'x'.center(9999999999) }}", "takes too much memory"),
        (
            "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "takes (too much memory|more than .* seconds)",
        ),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "does not work: "),
        ("{{ range(10 ** 9) }}", "does not work: "),
    ],
)
def test_templates_without_end(template, message, monkeypatch):
    monkeypatch.setattr("onebit.chat_template.MOST_SECONDS", 0.3)
    _renderer.close()  # the next one starts with this limit
    with pytest.raises(DataError, match=message):
        render(template, MESSAGES)
    assert render("{{ messages[0].content }}", MESSAGES) == MESSAGES[0]["content"]
    _renderer.close()


def test_a_template_sees_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv("ONEBIT_API_KEY", "secret")
    _renderer.close()
    render("", MESSAGES)
    environment = Path(f"/proc/{_renderer._process.pid}/environ")
    if not environment.exists():
        pytest.skip("no /proc here")
    assert b"secret" not in environment.read_bytes()


def test_a_fork_renders_in_a_process_of_its_own():
    render("", MESSAGES)
    child = os.fork()
    if child == 0:
        os._exit(0 if _renderer._process is None and render("{{ 6 * 7 }}", MESSAGES) == "42" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert render("{{ 7 * 7 }}", MESSAGES) == "49"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    write_folder(folder / "m", "qwen3")
    config = json.loads((folder / "m" / "tokenizer_config.json").read_text())
    (folder / "m" / "tokenizer_config.json").write_text(
        json.dumps(config | {"chat_template": "{% for m in messages %}{{ m.content }};{% endfor %}"})
    )
    import_model(folder / "m", folder / "m.onebit", wide="float32")
    return folder / "m.onebit"


def test_a_chat_reads_each_token_once_and_answers_as_a_new_one_would(file):
    session = onebit.load(file, precision="float32", threads=1)
    chat = Chat(session, "be brief")
    first = "".join(chat.answer("hello", 6, temperature=0))
    assert chat.messages[1:] == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": first}]
    assert first == session.write("be brief;hello;", 6, temperature=0).text
    second = "".join(chat.answer("and", 6, temperature=0))
    again = Chat(session, "be brief")
    again.messages = chat.messages[:3]
    assert "".join(again.answer("and", 6, temperature=0)) == second
    chat.reset()
    assert chat.messages == [{"role": "system", "content": "be brief"}]
    assert "".join(chat.answer("hello", 6, temperature=0)) == first


@pytest.fixture(scope="module")
def session(file):
    return onebit.load(file, precision="float32", threads=1)


def test_a_session_answers_messages_and_computes_only_what_is_new(session):
    session.prompt_cache.clear()
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    first = session.write_chat(messages, 6, temperature=0)
    assert first.text == "".join(session.chat(messages, 6, temperature=0))
    assert first.text == session.write("be brief;hello;", 6, temperature=0).text
    assert first.shared_tokens == 0
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "and"}]
    second = session.write_chat(messages, 6, temperature=0.9, seed=3)
    assert 0 < first.prompt_tokens - 1 <= second.shared_tokens < second.prompt_tokens
    session.prompt_cache.clear()
    alone = session.write_chat(messages, 6, temperature=0.9, seed=3)
    assert alone.shared_tokens == 0
    assert (alone.text, alone.tokens) == (second.text, second.tokens)
    # The same again: all but the last token is there.
    assert session.write_chat(messages, 6, temperature=0.9, seed=3).shared_tokens == alone.prompt_tokens - 1
    before = session.memory_bytes
    session.prompt_cache.clear()
    assert session.memory_bytes < before


def test_a_chat_takes_the_options_of_generation(session):
    messages = [{"role": "user", "content": "hello"}]
    whole = session.write_chat(messages, 20, temperature=0).text
    assert len(whole) > 6
    stop = whole[4:6]
    assert session.write_chat(messages, 20, temperature=0, stop=stop).text == whole[: whole.index(stop)]
    assert "".join(session.chat(messages, 20, temperature=0, stop=[stop, "never"])) == whole[: whole.index(stop)]
    assert "".join(Chat(session).answer("hello", 20, temperature=0, stop=stop)) == whole[: whole.index(stop)]
    options = {"temperature": 1.5, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "repetition_penalty": 1.1, "seed": 4}
    said = session.write_chat(messages, 20, presence_penalty=0.5, **options)
    assert said.tokens == session.write("hello;", 20, presence_penalty=0.5, **options).tokens
    with pytest.raises(OnebitError, match="min_p=2"):
        session.chat(messages, min_p=2)
    with pytest.raises(OnebitError, match="stop is empty"):
        session.write_chat(messages, stop="")


def test_threads_may_chat_in_one_session(session):
    from concurrent.futures import ThreadPoolExecutor

    chats = [[{"role": "user", "content": f"hello {i % 3}"}] for i in range(9)]
    expected = [session.write_chat(chat, 8, temperature=0).text for chat in chats]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda chat: session.write_chat(chat, 8, temperature=0).text, chats))
    assert found == expected


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hello", "messages='hello': give a list of messages"),
        ([], "give a list of messages"),
        ({"role": "user", "content": "a"}, "give a list of messages"),
        ([{"role": "user"}], "message 0 is .*: give a dict with the texts role and content"),
        ([{"role": "user", "content": None}], "message 0 is"),
        (
            [{"role": "user", "content": "y" * 300}],
            "the messages have .* tokens, the context 128: leave out the oldest",
        ),
    ],
)
def test_messages_that_are_none(session, messages, message):
    with pytest.raises(DataError, match=message):
        session.chat(messages)


def test_old_messages_are_forgotten_and_long_ones_refused(file):
    chat = Chat(onebit.load(file, precision="float32", threads=1))
    for _ in range(4):
        "".join(chat.answer("x" * 20, 30, temperature=0))
    assert 2 <= len(chat.messages) < 8
    with pytest.raises(DataError, match="the message has .* tokens, the context 128: shorten it"):
        list(chat.answer("y" * 200, 5))
    assert chat.messages[-1]["content"] != "y" * 200


def test_a_model_without_a_template_is_refused():
    books = onebit.load("books", threads=1)
    for call in (lambda: Chat(books), lambda: books.chat(MESSAGES)):
        with pytest.raises(DataError, match="this model has no template for chats: use onebit generate"):
            call()


def test_the_command_talks(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"hello\n\n/save {tmp_path / 'a.json'}\n/reset\nhello\n/quit\nlost\n"))
    assert main(["chat", str(file), "--temperature", "0", "--max-new-tokens", "4", "--threads", "1"]) == 0
    output = capsys.readouterr()
    said = json.loads((tmp_path / "a.json").read_text())
    assert [m["role"] for m in said] == ["user", "assistant"] and output.out.count(said[1]["content"]) == 2
    assert output.err.count("tokens, ") == 2
    assert output.out == f"{said[1]['content']}\n" * 2


def test_a_word_that_no_command_has_does_not_go_to_the_model(file, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("/help\n/rest\n"))
    assert main(["chat", str(file), "--threads", "1"]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("/reset forgets the messages") == 2
    assert "/rest: a chat does not have this command" in output.err


def test_the_command_goes_on_after_a_mistake_at_a_terminal(file, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("/save /nowhere/a.json\n" + "y" * 200 + "\nhello\n"))
    assert main(["chat", str(file), "--temperature", "0", "--max-new-tokens", "4", "--threads", "1"]) == 0
    errors = capsys.readouterr().err
    assert "there is no folder /nowhere" in errors
    assert "shorten it" in errors
    assert errors.count("a second]") == 1
