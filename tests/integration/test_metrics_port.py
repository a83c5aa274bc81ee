"""A worker's own port: who may read it, what it says, and what a taken one costs."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from webhooks.http.metrics import Exposition, MetricsPort


def figures() -> Iterator[tuple[str, tuple[str, ...], float]]:
    yield "dead", ("h",), 2.0


def get(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[MetricsPort]:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    made = MetricsPort(Exposition(figures), host="127.0.0.1", port=0)
    made.start()
    yield made
    made.close()
    assert list(tmp_path.glob("*.json")) == []


def test_three_paths_are_answered_and_the_port_is_named_for_prometheus(port: MetricsPort, tmp_path: Path) -> None:
    assert port.port is not None
    assert json.loads((tmp_path / f"worker-{os.getpid()}.json").read_text()) == [
        {"targets": [f"127.0.0.1:{port.port}"]}
    ]
    status, content_type, text = get(port.port, "/metrics")
    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "python_info" in text
    assert 'webhooks_deliveries_dead{handler="h"} 2.0' in get(port.port, "/metrics/database?x=y")[2]
    assert get(port.port, "/healthz")[0] == 200
    assert get(port.port, "/webhooks/close")[0] == 404


def test_a_scaler_is_answered_with_the_token_and_by_its_query() -> None:
    class Scaler:
        def answer(self, query: str) -> tuple[int, bytes]:
            return (200 if query else 404), query.encode()

    made = MetricsPort(Exposition(figures), Scaler(), host="127.0.0.1", port=0, token="right")  # type: ignore[arg-type]
    made.start()
    try:
        assert made.port is not None
        assert get(made.port, "/autoscale?queue=video")[0] == 401
        answered = get(made.port, "/autoscale?queue=video", Authorization="Bearer right")
        assert answered == (200, "application/json", "queue=video")
        assert get(made.port, "/autoscale", Authorization="Bearer right")[0] == 404
    finally:
        made.close()


def test_a_port_that_is_taken_is_a_warning(port: MetricsPort, caplog: pytest.LogCaptureFixture) -> None:
    assert port.port is not None
    second = MetricsPort(Exposition(figures), host="127.0.0.1", port=port.port)
    second.start()
    assert second.port is None
    assert "no metrics of this worker" in caplog.text
    second.close()


def test_a_token_is_asked_for_where_there_is_one() -> None:
    made = MetricsPort(Exposition(figures), host="127.0.0.1", port=0, token="right")
    made.start()
    try:
        assert made.port is not None
        assert get(made.port, "/metrics")[0] == 401
        assert get(made.port, "/metrics/database", Authorization="Bearer wrong")[0] == 401
        assert get(made.port, "/metrics", Authorization="Bearer right")[0] == 200
        assert get(made.port, "/healthz")[0] == 200
    finally:
        made.close()


def test_a_scrape_that_fails_is_a_line_in_the_log_and_the_next_one_works(caplog: pytest.LogCaptureFixture) -> None:
    broken = [True]

    def before() -> None:
        if broken.pop():
            raise RuntimeError("no")

    made = MetricsPort(Exposition(figures, before=before), host="127.0.0.1", port=0)
    made.start()
    try:
        assert made.port is not None
        assert get(made.port, "/metrics")[0] == 500
        broken.append(False)
        assert get(made.port, "/metrics")[0] == 200
    finally:
        made.close()
    assert "a scrape of this worker failed" in caplog.text
