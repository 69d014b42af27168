"""Imported language models: served as our own are, with tokens of their own that begin and end texts."""

import sys
from pathlib import Path

import pytest
from running import started

import onebit
from onebit.fileformat import PackedModel, load_model, save_model

sys.path.insert(0, str(Path(__file__).parents[1] / "importing"))
TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }};{% endfor %}{{ messages[:0] | tojson }}"


@pytest.fixture(scope="module", params=[[], [256], [256, 257]], ids=["no starts", "a start", "two starts"])
def model(request, tmp_path_factory):
    """A file with random weights."""
    pytest.importorskip("tokenizers")
    from random_models import write_folder

    from onebit.importing import import_model

    folder = tmp_path_factory.mktemp("imported")
    import_model(write_folder(folder / "m", "qwen3"), folder / "plain.onebit")
    plain = load_model(folder / "plain.onebit")
    task = {**plain.task, "starts": request.param, "chat_template": TEMPLATE}
    save_model(PackedModel(plain.program, plain.tensors, task), folder / "m.onebit")
    return folder / "m.onebit"


def test_an_imported_model_is_served(model, tmp_path):
    session = onebit.load(model, threads=1)
    tokens = session.tokenizer.encode("hello")
    with started(tmp_path, model) as served:

        def post(path, **fields):
            answer = served.client.post(path, json=fields)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert served.client.get("/v1/models").json()["data"][0]["chat_template"] is True
        for prompt in ("hello", tokens, ""):
            answer = post("/v1/completions", prompt=prompt, max_tokens=6, seed=1)
            made = session.generate(prompt if isinstance(prompt, str) else "hello", 6, seed=1)
            assert answer["choices"][0]["text"] == "".join(made)
        assert post("/v1/completions", prompt="hello", max_tokens=1)["usage"]["prompt_tokens"] == len(tokens)

        # The template and the tokenizer both begin texts: the model sees that once.
        messages = [{"role": "user", "content": "hello"}]
        answer = post("/v1/chat/completions", messages=messages, max_tokens=6, seed=1)
        expected = "".join(session.generate("hello;[]", 6, seed=1))
        assert answer["choices"][0]["message"]["content"] == expected
        assert answer["usage"]["prompt_tokens"] == len(session.tokenizer.encode("hello;[]"))
        assert "onebit" not in answer

        answer = post("/v1/completions", prompt="hello", max_tokens=0, echo=True, logprobs=1)
        choice = answer["choices"][0]
        assert choice["text"] == "".join(choice["logprobs"]["tokens"]) == "hello"
        scores = choice["logprobs"]["token_logprobs"]
        assert len(scores) == len(tokens)
        assert (scores[0] is None) == (not session.tokenizer.starts)
        assert all(score < 0 for score in scores[1:])

        answer = post("/v1/embeddings", input=["hello", ""])
        assert len(answer["data"]) == 2
        assert "request failed" not in served.log.read_text("utf-8")
