"""The clients that people have: openai's, LangChain's, curl."""

import json
import shutil
import subprocess

import pytest
from running import DIGITS, TEXTS


@pytest.fixture(scope="module")
def client(served):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0)


def test_openais_client_completes(client, session):
    assert [model.id for model in client.models.list()] == [TEXTS, DIGITS.stem]
    assert client.models.retrieve(TEXTS).owned_by == "onebit"
    expected = "".join(session.generate("It was", 12, seed=5))
    asked = {"model": TEXTS, "prompt": "It was", "max_tokens": 12, "seed": 5}
    whole = client.completions.create(**asked, logprobs=2)
    assert whole.choices[0].text == expected
    assert len(whole.choices[0].logprobs.token_logprobs) == whole.usage.completion_tokens == 12
    pieces = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for piece in pieces for choice in piece.choices) == expected
    assert pieces[-1].usage.completion_tokens == 12


def test_openais_client_chats(client):
    asked = {"model": TEXTS, "messages": [{"role": "user", "content": "It was"}], "max_tokens": 9, "seed": 5}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 3
    pieces = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content


def test_openais_client_stops_a_stream(client, served):
    stream = client.completions.create(model=TEXTS, prompt="It was", max_tokens=4096, stream=True)
    next(iter(stream))
    stream.close()
    assert served.settled("onebit_texts_live", 0, 2)


def test_openais_client_understands_refusals(client):
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt'"):
        client.completions.create(model="gpt", prompt="It was")
    with pytest.raises(openai.BadRequestError, match="temperature=-1") as refused:
        client.completions.create(model=TEXTS, prompt="It was", temperature=-1)
    assert refused.value.param == "temperature"


def test_langchains_client(served, session):
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.OpenAI(base_url=served.url + "/v1", api_key="none", model=TEXTS, max_tokens=10, seed=4)
    expected = "".join(session.generate("It was", 10, seed=4, temperature=0.7, top_p=1))
    assert model.invoke("It was") == expected
    assert "".join(model.stream("It was")) == expected
    chat = langchain.ChatOpenAI(base_url=served.url + "/v1", api_key="none", model=TEXTS, max_tokens=10, seed=4)
    assert chat.invoke("It was").content == "".join(piece.content for piece in chat.stream("It was"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(served, session):
    def curl(*words):
        done = subprocess.run(["curl", "-sS", "--max-time", "20", *words], capture_output=True, text=True, check=True)
        return done.stdout

    body = json.dumps({"prompt": "It was", "seed": 1, "max_tokens": 6})
    answer = json.loads(curl(served.url + "/v1/completions", "-d", body))
    assert answer["choices"][0]["text"] == "".join(session.generate("It was", 6, seed=1))
    assert curl("-o", "/dev/null", "-w", "%{http_code}", served.url + "/nothing") == "404"
