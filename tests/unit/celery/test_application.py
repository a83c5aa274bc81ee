"""Our task on an application of Celery's: its options, and nothing else of the application."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import each
from webhooks.contrib.celery import attach, find_app, make_app, make_feeder, task_of
from webhooks.contrib.celery.application import TASK, _advise
from webhooks.contrib.celery.engine import Engine
from webhooks.errors import ConfigurationError
from webhooks.settings import Settings, load_settings

celery: Any = pytest.importorskip("celery", reason="Celery is not installed; it is the extra celery")


@pytest.fixture
def app() -> Iterator[Any]:
    # the receivers of signals are kept by Celery for good, so these are put back
    names = ("worker_init", "worker_process_init", "worker_process_shutdown", "worker_shutdown")
    signals = [getattr(importlib.import_module("celery.signals"), name) for name in names]
    before = [list(signal.receivers) for signal in signals]
    app = celery.Celery("theirs", broker="memory://", set_as_current=False)
    yield app
    app.close()
    for signal, receivers in zip(signals, before, strict=True):
        signal.receivers = receivers


def test_the_task_acknowledges_early_keeps_nothing_and_is_not_tried_again_whatever_the_application_says(
    app: Any,
) -> None:
    app.conf.update(task_acks_late=True, task_ignore_result=False, task_serializer="pickle")
    before = dict(app.conf)
    task = attach(app, queues={"default": "w", "video": "gpu"})
    assert task.name == TASK
    assert (task.acks_late, task.ignore_result, task.store_errors_even_if_ignored) == (False, True, False)
    assert (task.serializer, task.max_retries) == ("json", 0)
    assert task_of(app).webhooks_queues == {"default": "w", "video": "gpu"}
    assert dict(app.conf) == before
    assert list(app.amqp.queues) == [app.conf.task_default_queue], "no queue is declared"


def test_by_default_the_default_queue_goes_to_webhooks(app: Any) -> None:
    attach(app)
    assert task_of(app).webhooks_queues == {"default": "webhooks"}


def test_an_application_without_our_task_is_refused_with_what_to_do(app: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'theirs' has no task webhooks.run; call .*attach"):
        task_of(app)
    attach(app)
    app.conf.task_always_eager = True
    with pytest.raises(ConfigurationError, match="task_always_eager"):
        task_of(app)


def test_an_application_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_app.py").write_text("app = 'the app'\nother = 'another'\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_app("shop_app") == "the app"
    assert find_app("shop_app:other") == "another"
    for name in ("shop_app:missing", "no_such_module:app"):
        with pytest.raises(ConfigurationError, match=f"no Celery application '{name}'"):
            find_app(name)
    sys.modules.pop("shop_app")


def test_without_an_application_of_theirs_one_is_made_of_the_settings(app: Any) -> None:
    with pytest.raises(ConfigurationError, match="set celery_broker_url"):
        make_app(Settings())
    made = make_app(Settings(celery_broker_url="memory://", queues={"video.*": "video"}))
    assert task_of(made).webhooks_queues == {"default": "webhooks", "video": "webhooks.video"}
    assert made.conf.worker_prefetch_multiplier == 1
    assert importlib.import_module("celery._state")._tls.current_app is not made
    made.close()


@each("value", ["amqp://user:pass@broker:5672//", "redis://broker/0", "rediss://broker", "sqs://"])
def test_broker_urls_are_read(value: str) -> None:
    settings = load_settings({}, overrides={"celery_broker_url": value, "database_url": "sqlite:///x.db"})
    assert settings.celery_broker_url == value
    assert "pass" not in repr(settings)


def test_what_is_no_broker_url_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="expected a URL such as amqp://") as raised:
        load_settings({}, overrides={"celery_broker_url": "guest:hunter2@broker"})
    assert "hunter2" not in str(raised.value)


def test_sqlite_is_refused_with_a_sentence() -> None:
    consumer: Any = SimpleNamespace(database=SimpleNamespace(is_sqlite=True))
    with pytest.raises(ConfigurationError, match="needs PostgreSQL; on SQLite run `webhooks worker`"):
        make_feeder(consumer)
    with pytest.raises(ConfigurationError, match="needs PostgreSQL"):
        _ = Engine(lambda: consumer).webhooks


def test_a_time_limit_below_the_longest_time_out_and_a_pool_that_is_not_tested_are_said(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hour = SimpleNamespace(timeout=None)
    default = load_settings({}, overrides={"timeout": "60s"})
    consumer: Any = SimpleNamespace(
        settings=default,
        registry=SimpleNamespace(handlers=lambda: [hour]),
        database=SimpleNamespace(is_sqlite=False),
        become=lambda role: None,
    )
    engine = Engine(lambda: consumer)
    app.conf.task_time_limit = 60
    with caplog.at_level(logging.WARNING):
        _advise(app, engine, "<class 'celery.concurrency.prefork.TaskPool'>")
        _advise(app, engine, "<class 'celery.concurrency.thread.TaskPool'>")
        assert caplog.text == ""
        app.conf.task_time_limit = 59
        _advise(app, engine, "<class 'celery.concurrency.gevent.TaskPool'>")
    assert "task_time_limit is 59 s, and a handler may run for 60 s" in caplog.text
    assert "is not tested with webhooks" in caplog.text
