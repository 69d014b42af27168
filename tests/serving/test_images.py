"""/v1/classify, /v2 and /v1/embeddings."""

import base64
import concurrent.futures
import io

import numpy as np
import pytest
from PIL import Image
from running import DIGITS, TEXTS

import onebit

PATH = "/v1/classify"


@pytest.fixture(scope="module")
def digits():
    return onebit.load(DIGITS, threads=1)


@pytest.fixture(scope="module")
def pictures():
    """Files of random pictures, with their pixels."""
    made = []
    for seed in range(12):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        made.append((file.getvalue(), pixels))
    return made


def labels(digits, pixels, top):
    (found,) = digits.classify([pixels], top)
    return [{"label": label, "score": pytest.approx(score, abs=1e-6)} for label, score in found]


def test_an_image_as_a_body_in_a_form_and_in_json(served, digits, pictures):
    content, pixels = pictures[0]
    expected = labels(digits, pixels, 3)
    encoded = base64.b64encode(content).decode()
    for answer in (
        served.client.post(PATH, params={"top_k": 3}, content=content),
        served.client.post(PATH, files={"file": content}, data={"top_k": "3", "model": DIGITS.stem}),
        served.client.post(PATH, json={"inputs": encoded, "parameters": {"top_k": 3}}),
        served.client.post(PATH, json={"inputs": "data:image/png;base64," + encoded, "top_k": 3, "model": DIGITS.stem}),
    ):
        assert answer.json() == expected
    both = served.client.post(PATH, json={"inputs": [encoded, base64.b64encode(pictures[1][0]).decode()], "top_k": 3})
    assert both.json() == [expected, labels(digits, pictures[1][1], 3)]
    form = [("file", content), ("file", pictures[1][0])]
    assert served.client.post(PATH, files=form, data={"top_k": "3"}).json() == both.json()


def test_images_that_come_together_are_a_batch_with_the_same_answers(served, digits, pictures):
    before = served.metric("onebit_images_total")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda made: served.client.post(PATH, content=made[0]).json(), pictures * 4))
    assert answers == [labels(digits, pixels, 5) for _, pixels in pictures] * 4
    assert served.metric("onebit_images_total") == before + 48


def bomb(side):
    """A PNG of a few kilobytes that claims side * side pixels."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ({"content": b""}, 400, "the body is empty"),
        ({"content": b"nothing"}, 400, "not one that can be read"),
        ({"content": bomb(8000)}, 413, "has 8000x8000 pixels"),
        ({"content": bomb(300)[:60]}, 400, ""),
        ({"content": b"x", "params": {"top_k": "many"}}, 400, "top_k"),
        ({"content": b"x", "params": {"top_k": "0"}}, 400, "top_k"),
        ({"json": {}}, 400, "inputs"),
        ({"json": {"inputs": 5}}, 400, "inputs"),
        ({"json": {"inputs": []}}, 400, "inputs"),
        ({"json": {"inputs": ["aaaa"] * 65}}, 400, "inputs"),
        ({"json": {"inputs": "no base64!"}}, 400, "base64"),
        ({"json": {"inputs": "aaaa", "parameters": 5}}, 400, "parameters"),
        ({"data": {"a": "b"}, "files": {}}, 400, ""),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, ""),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, 400, ""),
        ({"files": [("file", b"x")] * 65}, 400, ""),
    ],
    ids=str,
)
def test_what_is_no_image(served, words, status, message):
    answer = served.client.post(PATH, **words)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]["message"]
    assert "a request failed" not in served.log.read_text("utf-8")


def test_the_open_inference_protocol_for_images(served, digits, pictures):
    assert served.client.get("/v2").json()["name"] == "onebit"
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{DIGITS.stem}/ready"):
        assert served.client.get(path).status_code == 200
    path = f"/v2/models/{DIGITS.stem}"
    told = served.client.get(path).json()
    assert told["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 16, 16, 1]}]
    assert told["outputs"][0]["shape"] == [-1, 10]
    batch = np.stack([pixels[..., None] for _, pixels in pictures[:3]])
    for datatype, values in (("UINT8", batch), ("FP32", batch.astype(np.float32) / np.float32(255))):
        given = {"name": "images", "datatype": datatype, "shape": list(values.shape), "data": values.ravel().tolist()}
        answer = served.client.post(path + "/infer", json={"id": "7", "inputs": [given]}).json()
        assert (answer["id"], answer["model_name"]) == ("7", DIGITS.stem)
        output = answer["outputs"][0]
        np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), digits(values), atol=1e-5)


def test_the_open_inference_protocol_for_tokens(served, session):
    tokens = [session.tokenizer.separator, *session.tokenizer.encode("It was")]
    given = {"name": "tokens", "datatype": "INT64", "shape": [1, len(tokens)], "data": tokens}
    answer = served.client.post(f"/v2/models/{TEXTS}/infer", json={"inputs": [given]}).json()
    np.testing.assert_array_equal(answer["outputs"][0]["data"], session.logits(tokens)[-1])


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1, 16, 16]},
        {"shape": [2, 16, 16, 1]},
        {"shape": [-1, 16, 16, 1]},
        {"shape": "x"},
        {"data": None},
        {"data": ["a"] * 256},
        {"data": [300] * 256},
        {"data": [0.5] * 256},
        {"data": [[1], [1, 2]]},
        {"datatype": "BYTES"},
        {"name": "pixels"},
        {"shape": [0, 16, 16, 1], "data": []},
    ],
    ids=str,
)
def test_wrong_arrays(served, change):
    given = {"name": "images", "datatype": "UINT8", "shape": [1, 16, 16, 1], "data": [0] * 256, **change}
    answer = served.client.post(f"/v2/models/{DIGITS.stem}/infer", json={"inputs": [given]})
    assert answer.status_code == 400
    assert "inputs" in answer.json()["error"]["message"]


def test_wrong_tokens(served):
    for data in ([10**6], [-1], list(range(300))):
        given = {"name": "tokens", "datatype": "INT64", "shape": [1, len(data)], "data": data}
        assert served.client.post(f"/v2/models/{TEXTS}/infer", json={"inputs": [given]}).status_code == 400
    assert served.client.post("/v2/models/nothing/infer", json={}).status_code == 404


def test_embeddings(served):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0)
    texts = ["The king was old.", "The king was very old.", "Five potatoes, please"]
    answer = client.embeddings.create(model=TEXTS, input=texts)
    vectors = np.array([data.embedding for data in answer.data])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    plain = served.client.post("/v1/embeddings", json={"input": texts[0]}).json()
    np.testing.assert_allclose(plain["data"][0]["embedding"], vectors[0], atol=1e-6)
    assert plain["usage"]["prompt_tokens"] > 3


@pytest.mark.parametrize(
    "given", [None, 5, [], [[]], [5.5], ["a", 5], [10**7], "a " * 600, ["a"] * 65], ids=lambda x: str(x)[:20]
)
def test_embeddings_of_what_is_no_text(served, given):
    answer = served.client.post("/v1/embeddings", json={"input": given})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == "input"


def test_embeddings_are_the_mean_of_the_last_hidden_states(served):
    from onebit.fileformat import load_model
    from onebit.pretrained import find
    from onebit.runtime import reference
    from onebit.serving.embeddings import without_head

    model = load_model(find(TEXTS))
    session = onebit.load(TEXTS, threads=1)
    ids = [session.tokenizer.separator, *session.tokenizer.encode("It was")]
    hidden = reference.run(without_head(model.program), model.tensors, np.array([ids]))[0]
    expected = hidden.mean(0) / np.linalg.norm(hidden.mean(0))
    found = served.client.post("/v1/embeddings", json={"input": "It was"}).json()["data"][0]["embedding"]
    np.testing.assert_allclose(found, expected, atol=2e-3)
