"""What Prometheus reads, and the limit of connections."""

import re
import socket

from running import TEXTS, started

from onebit.serving.metrics import Metrics


def test_the_text_format():
    metrics = Metrics()
    metrics.count("onebit_requests_total", path='a"b\\\n', status="200")
    metrics.count("onebit_requests_total", 2, path='a"b\\\n', status="200")
    metrics.observe("onebit_batch_size", [1, 2, 3, 1000])
    metrics.gauges["onebit_texts_live"] = lambda: 7
    lines = metrics.text().splitlines()
    assert 'onebit_requests_total{path="a\\"b\\\\\\n",status="200"} 3' in lines
    assert "onebit_texts_live 7" in lines
    assert [line for line in lines if line.startswith("onebit_batch_size")][:4] == [
        'onebit_batch_size_bucket{le="1"} 1',
        'onebit_batch_size_bucket{le="2"} 2',
        'onebit_batch_size_bucket{le="4"} 3',
        'onebit_batch_size_bucket{le="8"} 3',
    ]
    assert 'onebit_batch_size_bucket{le="+Inf"} 4' in lines
    assert "onebit_batch_size_sum 1006" in lines
    assert "onebit_batch_size_count 4" in lines
    assert all(line.startswith("# ") or re.fullmatch(r"\w+(\{.*\})? [\d.e+-]+", line) for line in lines)


def test_a_server_counts(served):
    def tokens():
        return served.metric("onebit_time_to_first_token_seconds_count"), served.metric("onebit_tokens_total")

    first, written = tokens()
    served.client.post("/v1/completions", json={"prompt": "It was", "max_tokens": 5})
    assert tokens() == (first + 1, written + 3 + 5)  # a separator and two tokens of the prompt, and five new ones
    before = served.metric("onebit_errors_total")
    served.client.post("/v1/completions", content=b"{")
    assert served.metric("onebit_errors_total") == before + 1


def test_more_connections_than_allowed_are_refused(tmp_path):
    with started(tmp_path, TEXTS, "--max-connections", "4") as served:
        host, port = served.url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port)), timeout=5) for _ in range(3)]
        try:
            with socket.create_connection((host, int(port)), timeout=5) as refused:
                assert refused.recv(100).startswith(b"HTTP/1.1 503")
        finally:
            for connection in idle:
                connection.close()
        assert served.client.get("/health").status_code == 200
