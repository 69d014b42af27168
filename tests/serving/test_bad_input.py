"""What clients send by mistake or on purpose: each is refused in OpenAI's shape, and the server goes on."""

import contextlib
import json
import socket
import subprocess
import sys
import time

import pytest
from running import DIGITS, TEXTS, started

GOOD = {"prompt": "It was", "max_tokens": 3}


@pytest.fixture(autouse=True)
def goes_on(served):
    """Afterwards the server answers as before, and nothing of it is left open."""
    yield
    assert served.client.post("/v1/completions", json=GOOD).status_code == 200
    assert served.settled("onebit_texts_live", 0)
    log = served.log.read_text("utf-8")
    assert "Traceback" not in log
    assert "a request failed" not in log


def refused(answer, status, message):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "the body is a list"),
        (b"null", "the body is null"),
        (b'{"prompt": NaN}', "NaN is not a value"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
    ids=lambda x: x[:12].decode("latin-1") if isinstance(x, bytes) else None,
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_bodies_that_are_no_objects(served, path, body, message):
    refused(served.client.post(path, content=body), 400, message)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": 5}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**40]}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": "a " * 600, "overflow": "stop"}, "prompt"),
        ({"prompt": "a " * 600, "echo": True, "logprobs": 1}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"min_p": 1.5}, "min_p"),
        ({"presence_penalty": "much"}, "presence_penalty"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"n": 2, "best_of": 3}, "best_of"),
        ({"seed": 1.5}, "seed"),
        ({"seed": 1 << 70}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["x" * 300]}, "stop"),
        ({"stop": ["x"] * 1_000_000}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"echo": 1}, "echo"),
        ({"overflow": "explode"}, "overflow"),
        ({"suffix": "end"}, "suffix"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"model": 5}, "model"),
    ],
    ids=str,
)
def test_fields_of_wrong_types_and_sizes(served, fields, param):
    answer = served.client.post("/v1/completions", json={"prompt": "It was", "max_tokens": 3, **fields})
    refused(answer, 400, "")
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "messages",
    [None, [], "hi", [5], [{"role": "king", "content": "a"}], [{"role": "user"}], [{"role": "user", "content": [1]}]],
)
def test_messages_that_are_none(served, messages):
    refused(served.client.post("/v1/chat/completions", json={"messages": messages}), 400, "messages")


def test_unknown_and_unfitting_models(served):
    refused(served.client.post("/v1/completions", json={**GOOD, "model": "gpt\n4"}), 404, "there is no model")
    refused(served.client.post("/v1/completions", json={**GOOD, "model": DIGITS.stem}), 400, "takes images")
    refused(served.client.post(f"/v1/classify?model={TEXTS}", content=b"x"), 400, "writes text")
    refused(served.client.get("/v1/models/nothing"), 404, "there is no model")


def test_unknown_paths_and_methods(served):
    refused(served.client.get("/nothing"), 404, "there is no such path")
    refused(served.client.get("/v1/completions"), 405, "GET is not allowed here")
    refused(served.client.get("/../../etc/passwd"), 404, "there is no such path")


def raw(served, content, seconds=5.0):
    """What the server answers to bytes, until it closes the connection or the time is over."""
    host, port = served.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):  # it closes while this still sends
            connection.sendall(content)
        try:
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionError):
            pass
    return received


HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"


def test_a_body_of_a_gigabyte(served):
    assert raw(served, HEAD + b"Content-Length: 1073741824\r\n\r\n{").startswith(b"HTTP/1.1 413")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    assert raw(served, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("length", [b"-5", b"1e3", b"x"])
def test_lengths_that_are_no_numbers(served, length):
    assert raw(served, HEAD + b"Content-Length: " + length + b"\r\n\r\n{}", 2).startswith(b"HTTP/1.1 4")


def test_a_flood_of_headers(served):
    many = b"".join(b"X-%d: a\r\n" % number for number in range(5000))
    assert raw(served, HEAD + many + b"\r\n", 2).startswith(b"HTTP/1.1 431")
    assert raw(served, HEAD + b"X-Long: " + b"a" * (1 << 20), 2).startswith(b"HTTP/1.1 431")
    assert raw(served, b"GET /" + b"a" * (1 << 20), 2).startswith(b"HTTP/1.1 4")


def test_what_is_no_http(served):
    assert raw(served, b"\x16\x03\x01\x02\x00\x01", 2).startswith(b"HTTP/1.1 400")
    assert raw(served, b"", 0.3) == b""


def test_slow_clients(tmp_path):
    """One that never ends its body, and one that leaves its answer unread."""
    words = [TEXTS, "--body-timeout", "0.5", "--write-timeout", "0.5", "--max-tokens", "200000"]
    with started(tmp_path, *words) as served:
        assert raw(served, HEAD + b"Content-Length: 50\r\n\r\n{", 3).startswith(b"HTTP/1.1 408")
        host, port = served.url.removeprefix("http://").split(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect((host, int(port)))
            body = b'{"stream": true, "max_tokens": 200000, "logprobs": 20}'
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            end = time.monotonic() + 20
            while served.metric("onebit_texts_live") == 0:
                assert time.monotonic() < end
                time.sleep(0.05)
            # It reads nothing: the text pauses, then the connection is cut.
            assert served.settled("onebit_texts_live", 0, 20)
        assert served.metric("onebit_texts_total") >= 1


@pytest.mark.parametrize("origin", ["http://[", "http://[zz]", "null"])
def test_origins_that_are_none(served, origin):
    refused(served.client.get("/v1/models", headers={"Origin": origin}), 403, "other sites")


@pytest.mark.parametrize("token", [4096, -1, 10**40])
def test_tokens_out_of_range_have_a_code_of_their_own(served, token):
    answer = served.client.post("/v1/completions", json={"prompt": [1, token]})
    refused(answer, 400, "token")
    assert answer.json()["error"]["code"] == "invalid_token"
    long = served.client.post("/v1/completions", json={"prompt": "a " * 600, "overflow": "stop"})
    assert long.json()["error"]["code"] == "context_length_exceeded"


def test_numbers_in_texts_that_are_too_long_for_python(served):
    refused(served.client.post("/v1/classify", params={"top_k": "9" * 5000}, content=b"x"), 400, "top_k=")
    files = {"image": ("a.png", b"x")}
    refused(served.client.post("/v1/classify", data={"top_k": "9" * 5000}, files=files), 400, "top_k=")


def test_half_a_surrogate_pair_in_an_id(served):
    rows = {"name": "tokens", "datatype": "INT32", "shape": [1, 2], "data": [1, 2]}
    body = json.dumps({"id": "a\ud800", "inputs": [rows]})
    answer = served.client.post(f"/v2/models/{TEXTS}/infer", content=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == "a\ufffd"


def test_numbers_beyond_float32(served):
    rows = {"name": "images", "datatype": "FP32", "shape": [1, 1], "data": [1e300]}
    refused(served.client.post(f"/v2/models/{DIGITS.stem}/infer", json={"inputs": [rows]}), 400, "FP32 numbers")
    assert "Warning" not in served.log.read_text("utf-8")


def test_several_processes_say_once_that_a_file_is_damaged(tmp_path):
    path = tmp_path / "cut.onebit"
    path.write_bytes(DIGITS.read_bytes()[:5000])
    command = [sys.executable, "-m", "onebit", "serve", str(path), "--workers", "2", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "is truncated" in ended.stderr
