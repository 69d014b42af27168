"""Who may ask: keys, names of hosts, pages of other sites."""

import pytest
from running import TEXTS, started


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server with keys, behind a name of its own."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "keys").write_text("second\n\nthird\n")
    words = [TEXTS, "--api-key", "first", "--api-key-file", folder / "keys", "--allow-host", "Models.Example"]
    with started(folder, *words) as server:
        yield server


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/completions", "/v2/models/a", "/nothing"])
def test_a_key_is_needed(locked, path):
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic first"},
        {"X-API-Key": "é"},
    ):
        answer = locked.client.get(path, headers={name: value.encode() for name, value in headers.items()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", ["first", "second", "third"])
def test_each_key_opens(locked, key):
    assert locked.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert locked.client.get("/v1/models", headers={"X-API-Key": key}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/page.js"])
def test_some_paths_are_open(locked, path):
    assert locked.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8080", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("models.example", 200),
        ("MODELS.EXAMPLE:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("a b", 403),
        ("[", 403),
        ("localhost:80:80", 403),
    ],
)
def test_names_of_hosts_are_checked(locked, host, status):
    assert locked.client.get("/health", headers={"Host": host}).status_code == status


def test_pages_of_other_sites_are_refused(served):
    body = {"prompt": "It", "max_tokens": 1}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = served.client.post("/v1/completions", json=body, headers=headers)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    own = {"Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    assert served.client.post("/v1/completions", json=body, headers=own).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.client.get("/", headers=link).status_code == 200


def test_the_pages_policy_and_no_request_in_the_log(served):
    page = served.client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    served.client.post("/v1/completions", json={"prompt": "a secret word", "max_tokens": 1})
    served.client.post("/v1/completions", json={"prompt": "a secret word", "max_tokens": "a secret word"})
    assert "secret" not in served.log.read_text("utf-8")
