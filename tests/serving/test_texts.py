"""/v1/completions and /v1/chat/completions: the texts are those of a session, whatever else is written."""

import asyncio
import json
import threading

import httpx
import numpy as np
import pytest
from running import TEXTS, started

PROMPTS = ["It was", "The", "Once upon a time there was a king, and", "", "naïve café — 😀", "She said: " * 20]


def ask(served, **fields):
    answer = served.client.post("/v1/completions", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(response):
    """The values of a stream of events, without its end."""
    values = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert values[-1] == "[DONE]"
    return [json.loads(value) for value in values[:-1]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0},
        {"temperature": 1.2, "top_p": 1},
        {"top_k": 5, "repetition_penalty": 1.3},
        {"temperature": 1.5, "min_p": 0.05, "presence_penalty": 1.5},
    ],
)
def test_a_text_is_the_sessions(served, session, options):
    for seed, prompt in enumerate(PROMPTS):
        answer = ask(served, prompt=prompt, seed=seed, max_tokens=40, **options)
        expected = "".join(session.generate(prompt, 40, seed=seed, **options))
        assert answer["choices"][0]["text"] == expected
        assert answer["object"] == "text_completion"
        assert answer["model"] == TEXTS
        usage = answer["usage"]
        assert usage["prompt_tokens"] == len(session.tokenizer.encode(prompt))
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_texts_that_are_written_at_once_are_the_same_bits(served, session):
    """Long prompts arrive in chunks between the tokens of others, texts outgrow the context, and clients leave."""
    lengths = [3, 17, 60, 300]
    cases = [(PROMPTS[i % len(PROMPTS)], i, lengths[i % len(lengths)]) for i in range(24)]
    expected = ["".join(session.generate(prompt, length, seed=seed)) for prompt, seed, length in cases]

    async def all_of_them():
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=served.url, timeout=60, limits=limits) as client:

            async def one(prompt, seed, length, stream):
                body = {"prompt": prompt, "seed": seed, "max_tokens": length, "stream": stream}
                answer = await client.post("/v1/completions", json=body)
                if not stream:
                    return answer.json()["choices"][0]["text"]
                return "".join(event["choices"][0]["text"] for event in events(answer))

            async def leave():
                with pytest.raises(httpx.TimeoutException):
                    await client.post("/v1/completions", json={"prompt": "It", "max_tokens": 4000}, timeout=0.05)

            tasks = [one(*case, stream=index % 2 == 0) for index, case in enumerate(cases)]
            return await asyncio.gather(*tasks, *(leave() for _ in range(6)))

    assert asyncio.run(all_of_them())[: len(cases)] == expected
    assert served.settled("onebit_texts_live", 0)


def test_several_texts_of_several_prompts(served, session):
    answer = ask(served, prompt=["It was", "The"], n=2, seed=7, max_tokens=12)
    texts = [choice["text"] for choice in answer["choices"]]
    expected = ["".join(session.generate(p, 12, seed=7 + i)) for i, p in enumerate(["It was", "It was", "The", "The"])]
    assert texts == expected
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == sum(len(session.tokenizer.encode(p)) for p in ("It was", "The"))
    body = {"prompt": ["It was", "The"], "n": 2, "seed": 7, "max_tokens": 12, "stream": True}
    streamed = [""] * 4
    for event in events(served.client.post("/v1/completions", json=body)):
        streamed[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert streamed == expected


def test_more_texts_than_take_a_turn_are_echoed_without_a_token(served):
    prompts = [f"text {i}" for i in range(20)]
    answer = ask(served, prompt=prompts, max_tokens=0, echo=True)
    assert [choice["text"] for choice in answer["choices"]] == prompts


def test_tokens_as_a_prompt(served, session):
    tokens = session.tokenizer.encode("It was")
    for prompt in (tokens, [tokens]):
        assert ask(served, prompt=prompt, seed=1, max_tokens=9)["choices"][0]["text"] == "".join(
            session.generate("It was", 9, seed=1)
        )


@pytest.mark.parametrize("stop", [" the", [" and", "."], "never to be found"])
def test_stop_texts(served, session, stop):
    expected = "".join(session.generate("It was", 60, seed=3, stop=stop))
    whole = ask(served, prompt="It was", max_tokens=60, seed=3, stop=stop)["choices"][0]
    assert whole["text"] == expected
    stopped = expected != "".join(session.generate("It was", 60, seed=3))
    assert whole["finish_reason"] == ("stop" if stopped else "length")
    body = {"prompt": "It was", "max_tokens": 60, "seed": 3, "stop": stop, "stream": True}
    pieces = events(served.client.post("/v1/completions", json=body))
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == expected
    assert pieces[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]


def test_log_probabilities_are_those_of_score(served, session):
    answer = ask(served, prompt="It was", max_tokens=8, seed=1, logprobs=3, echo=True)["choices"][0]
    found = answer["logprobs"]
    scores = session.score(answer["text"])
    assert answer["text"].startswith("It was")
    assert "".join(found["tokens"]) == answer["text"]
    np.testing.assert_allclose(found["token_logprobs"], [score for _, score in scores], atol=1e-4)
    assert found["text_offset"] == list(np.cumsum([0, *map(len, found["tokens"][:-1])]))
    for token, score, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        assert len(top) == 3
        assert score <= max(top.values()) + 1e-9
        assert token not in top or top[token] == pytest.approx(score)
    # Only the prompt, as programs that evaluate models ask for it.
    only = ask(served, prompt=answer["text"], max_tokens=0, logprobs=0, echo=True)["choices"][0]
    assert only["text"] == answer["text"]
    np.testing.assert_allclose(only["logprobs"]["token_logprobs"], found["token_logprobs"], atol=1e-5)
    streamed = events(
        served.client.post(
            "/v1/completions",
            json={"prompt": "It was", "max_tokens": 8, "seed": 1, "logprobs": 3, "echo": True, "stream": True},
        )
    )
    tokens = [token for event in streamed if (scored := event["choices"][0]["logprobs"]) for token in scored["tokens"]]
    assert tokens == found["tokens"]


def test_usage_at_the_end_of_a_stream(served):
    body = {"prompt": "It was", "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}
    last = events(served.client.post("/v1/completions", json=body))[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 5


def test_a_chat_without_a_template_is_joined_plainly_and_says_so(served, session):
    messages = [
        {"role": "system", "content": "A story."},
        {"role": "user", "content": [{"type": "text", "text": "It was"}]},
    ]
    answer = served.client.post("/v1/chat/completions", json={"messages": messages, "seed": 2, "max_tokens": 10}).json()
    assert answer["choices"][0]["message"]["content"] == "".join(session.generate("A story.\nIt was\n", 10, seed=2))
    assert answer["object"] == "chat.completion"
    assert "no chat template" in answer["onebit"]["note"]
    body = {"messages": messages, "seed": 2, "max_tokens": 10, "stream": True, "logprobs": True, "top_logprobs": 2}
    pieces = events(served.client.post("/v1/chat/completions", json=body))
    assert pieces[0]["choices"][0]["delta"]["role"] == "assistant"
    assert (
        "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces)
        == answer["choices"][0]["message"]["content"]
    )
    assert len(pieces[0]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 2
    assert {piece["object"] for piece in pieces} == {"chat.completion.chunk"}


def test_a_client_that_goes_ends_its_text(served):
    before = served.metric("onebit_texts_total")
    for stream in (True, False):
        body = {"prompt": "It", "max_tokens": 4096, "stream": stream}
        if stream:
            with served.client.stream("POST", "/v1/completions", json=body) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                served.client.post("/v1/completions", json=body, timeout=0.1)
        assert served.settled("onebit_texts_live", 0, 2)
    assert served.metric("onebit_texts_total") == before + 2
    assert 'onebit_texts_total{reason="cancelled"}' in served.client.get("/metrics").text


def test_tokens_there_and_back(served, session):
    found = served.client.post("/tokenize", json={"content": "naïve café"}).json()
    assert found["tokens"] == session.tokenizer.encode("naïve café")
    assert found["count"] == len(found["tokens"])
    assert served.client.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"content": "naïve café"}


def test_a_full_queue_answers_429_and_a_timeout_504(tmp_path):
    words = [TEXTS, "--max-concurrent", "1", "--max-queue", "1", "--timeout", "0.5"]
    with started(tmp_path, *words) as served:
        statuses = []

        def one():
            answer = httpx.post(
                served.url + "/v1/completions", json={"prompt": "It", "max_tokens": 4096, "stop": "\x00"}
            )
            statuses.append((answer.status_code, answer.headers.get("retry-after")))

        threads = [threading.Thread(target=one) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [status for status, _ in statuses]
        assert found.count(429) == 3
        assert set(found) <= {200, 429, 504}
        assert all(retry == "1" for status, retry in statuses if status == 429)
        assert served.settled("onebit_texts_live", 0)
