"""Several models, files that are replaced, signals, processes, and chat templates."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest
from running import DIGITS, TEXTS, started

from onebit.fileformat import PackedModel, load_model, save_model
from onebit.pretrained import find

BODY = {"prompt": "It was", "seed": 1, "max_tokens": 10}
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def with_template(path, template):
    """A copy of the language model that carries a chat template."""
    model = load_model(find(TEXTS))
    save_model(PackedModel(model.program, model.tensors, {**model.task, "chat_template": template}), path)


@pytest.fixture
def files(tmp_path):
    """Two language models and a classifier."""
    for name in ("one", "two"):
        shutil.copy(find(TEXTS), tmp_path / f"{name}.onebit")
    shutil.copy(DIGITS, tmp_path / "digits.onebit")
    return tmp_path


def loaded(served):
    return [model["id"] for model in served.client.get("/v1/models").json()["data"] if model["loaded"]]


def test_models_are_loaded_when_asked_for_and_put_away_when_memory_is_short(files):
    words = [files / "one.onebit", files / "two.onebit", files / "digits.onebit", "--memory", "20"]
    with started(files, *words) as served:
        assert loaded(served) == ["one"]
        texts = {}
        for name in ("two", "one", "two"):
            answer = served.client.post("/v1/completions", json={**BODY, "model": name}).json()
            assert answer["model"] == name
            texts[name] = answer["choices"][0]["text"]
        assert loaded(served) == ["one", "two"]
        assert texts["one"] == texts["two"]
        assert served.metric("onebit_model_memory_bytes") < 20 << 20
    with started(files, *words[:-1], "6") as served:
        for name in ("two", "one", "two"):
            assert served.client.post("/v1/completions", json={**BODY, "model": name}).status_code == 200
            assert loaded(served) == [name]
        assert served.metric("onebit_models_loaded") == 1


def test_a_replaced_file_is_taken_whole_or_not_at_all(files):
    path = files / "one.onebit"
    with started(files, path) as served:
        text = served.client.post("/v1/completions", json=BODY).json()["choices"][0]["text"]

        def signalled(words):
            served.process.send_signal(signal.SIGHUP)
            end = time.monotonic() + 10
            while words not in served.log.read_text("utf-8"):
                assert time.monotonic() < end, served.log.read_text("utf-8")
                time.sleep(0.02)

        # A damaged one, over the one that is mapped: the old goes on.
        (files / "new").write_bytes(b"damaged")
        (files / "new").replace(path)
        assert served.client.post("/v1/completions", json=BODY).json()["choices"][0]["text"] == text
        signalled("one: the old one goes on")
        assert served.client.post("/v1/completions", json=BODY).json()["choices"][0]["text"] == text
        # A good one, while a text is written with the old.
        with_template(files / "new", TEMPLATE)
        (files / "new").replace(path)
        with served.client.stream(
            "POST", "/v1/completions", json={**BODY, "max_tokens": 400, "stream": True}
        ) as stream:
            lines = stream.iter_lines()
            next(lines)
            signalled("one: read again")
            *_, last = (line for line in lines if line)
            assert last == "data: [DONE]"
        answer = served.client.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "It"}]}
        ).json()
        assert "onebit" not in answer
        assert served.client.get("/v1/models").json()["data"][0]["chat_template"] is True


def test_a_chat_template_of_the_file(files, session):
    path = files / "chat.onebit"
    with_template(path, TEMPLATE)
    with started(files, path) as served:
        body = {"messages": [{"role": "user", "content": "It was"}], "seed": 3, "max_tokens": 8}
        answer = served.client.post("/v1/chat/completions", json=body).json()
        expected = "".join(session.generate("<user>It was<assistant>", 8, seed=3))
        assert answer["choices"][0]["message"]["content"] == expected
        assert "onebit" not in answer


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10**9) %}a{% endfor %}",
        "{{ 1 / 0 }}",
        "{% broken",
        "{{ raise_exception('no\\nsuch role') }}",
        "{{ messages[9].content.nothing }}",
        "{% for m in messages %}" * 30 + "{% endfor %}" * 30,
    ],
)
def test_a_template_reaches_nothing_else(template, session):
    from onebit.serving.chat import prompt_of
    from onebit.serving.refusal import Refusal

    with pytest.raises(Refusal) as refused:
        prompt_of([{"role": "user", "content": "a"}], template, session.tokenizer)
    assert refused.value.status == 400
    assert "\n" not in refused.value.message


def test_sigterm_finishes_what_runs_and_exits_with_0(files):
    with started(files, TEXTS) as served:
        answers = []

        def ask():
            body = {**BODY, "max_tokens": 2000, "stop": "\x00"}
            answers.append(httpx.post(served.url + "/v1/completions", json=body, timeout=30).json())

        thread = threading.Thread(target=ask)
        thread.start()
        assert served.settled("onebit_texts_live", 1)
        served.process.send_signal(signal.SIGTERM)
        thread.join()
        assert served.process.wait(10) == 0
        assert answers[0]["choices"][0]["finish_reason"] in ("stop", "length")
        with pytest.raises(httpx.ConnectError):
            httpx.get(served.url + "/health")


def test_what_goes_on_after_the_drain_ends_with_an_event(files):
    with started(files, TEXTS, "--drain", "0.2") as served:
        body = {**BODY, "max_tokens": 4096, "stop": "\x00", "stream": True}
        with httpx.stream("POST", served.url + "/v1/completions", json=body, timeout=30) as answer:
            lines = answer.iter_lines()
            next(lines)
            served.process.send_signal(signal.SIGTERM)
            last = [line for line in lines if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "server_ends"
        assert served.process.wait(10) == 0


def test_several_processes_answer_on_one_port(files, session):
    with started(files, TEXTS, "--workers", "2", "--threads", "1") as served:
        expected = "".join(session.generate("It was", 10, seed=1))
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(served.process.pid)], capture_output=True, text=True
        )
        workers = [int(pid) for pid in children.stdout.split()]
        assert len(workers) == 2
        for _ in range(8):  # a connection each: the system divides them
            answer = httpx.post(served.url + "/v1/completions", json=BODY, timeout=30)
            assert answer.json()["choices"][0]["text"] == expected
        subprocess.run(["kill", "-9", str(workers[0])], check=True)
        end = time.monotonic() + 20
        while served.log.read_text("utf-8").count("another one starts") != 1:
            assert time.monotonic() < end
            time.sleep(0.05)
        for _ in range(4):
            assert httpx.post(served.url + "/v1/completions", json=BODY, timeout=30).status_code == 200


@pytest.mark.parametrize("words", [[], ["--workers", "2"]])
def test_two_servers_on_one_port(served, words):
    port = served.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "onebit", "serve", TEXTS, "--port", port, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"onebit: error: [serve] port {port} is in use")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.onebit"], "nothing.onebit"),
        ([TEXTS, TEXTS], "two files are named"),
        ([TEXTS, "--host", "0.0.0.0"], "give --api-key, or --insecure"),
        ([TEXTS, "--insecure", "--host", "no.such.host.example"], "is not known"),
        ([TEXTS, "--port", "70000"], "--port='70000': use a whole number from 0 to 65535"),
        ([TEXTS, "--timeout", "nan"], "--timeout"),
        ([TEXTS, "--max-queue", "1.5"], "--max-queue"),
        ([TEXTS, "--precision", "int4"], "precision='int4'"),
        ([TEXTS, "--api-key", "with blank"], "a key has a blank"),
        ([TEXTS, "--api-key-file", "nothing"], "cannot be read"),
        ([TEXTS, "--config", "nothing"], "cannot be read"),
    ],
    ids=str,
)
def test_wrong_settings_are_one_line(words, message, capsys):
    from onebit.cli.main import main

    assert main(["serve", *words, *(() if "--port" in words else ("--port", "0"))]) == 1
    error = capsys.readouterr().err
    assert error.startswith("onebit: error: ")
    assert error.count("\n") == 1
    assert message in error


def test_where_settings_come_from(tmp_path):
    from onebit.errors import OnebitError
    from onebit.serving.settings import Settings, resolve

    config = tmp_path / "serve.yaml"
    config.write_text("port: 1\ntimeout: 2\nmax-tokens: 3\napi_key: [a, b]\ninsecure: true\n")
    environment = {"ONEBIT_SERVE_TIMEOUT": "20", "ONEBIT_SERVE_MAX_TOKENS": "30", "ONEBIT_SERVE_ALLOW_HOST": "x,y"}
    found = resolve({"config": str(config), "max_tokens": "300"}, environment)
    assert (found.port, found.timeout, found.max_tokens) == (1, 20.0, 300)
    assert (found.api_key, found.allow_host, found.insecure) == (("a", "b"), ("x", "y"), True)
    assert resolve({}, {"ONEBIT_SERVE_CONFIG": str(config)}).port == 1
    assert resolve({}, {}) == Settings()
    for text in ("ports: 1", "port: [1]", "port: true", "insecure: 5", "api_key: 5", "host: 5", "- a", "a: ["):
        config.write_text(text)
        with pytest.raises(OnebitError) as refused:
            resolve({"config": str(config)}, {})
        assert "\n" not in str(refused.value)


def test_openai_shapes_are_json(served):
    """A label or a message with a line end does not break a stream."""
    answer = served.client.post(
        "/v1/completions", json={**BODY, "prompt": "a\n\ndata: [DONE]\n\n", "echo": True, "stream": True}
    )
    first = json.loads(answer.text.split("\n\n")[0].removeprefix("data: "))
    assert first["choices"][0]["text"] == "a\n\ndata: [DONE]\n\n"
