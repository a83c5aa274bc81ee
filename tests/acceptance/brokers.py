"""Real message brokers for tests: those of this machine, or one of our own that a test stops and starts.

`WEBHOOKS_TEST_BROKER_URL` names others than the defaults, one URL of RabbitMQ and one of Redis, with a space between. What
a test puts into a broker has names of its own, and is taken out afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.support import Process, Processes, free_port
from tests.support import wait_until

#: {name: URL where the machine's own is}
DEFAULTS = {"rabbitmq": "amqp://guest:guest@127.0.0.1:5672//", "redis": "redis://127.0.0.1:6379/0"}
VARIABLE = "WEBHOOKS_TEST_BROKER_URL"

#: A Celery application in the test's directory. Mingle, gossip and remote control only make queues of their own.
APPLICATION = """
from celery import Celery
from webhooks.contrib.celery import attach

app = Celery("theirs", broker={url!r})
app.conf.update(
    broker_transport_options={options!r},
    broker_connection_retry_on_startup=True,
    broker_connection_retry=True,
    broker_connection_max_retries=None,
    task_default_queue={queue!r},
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
)
attach(app, queues={{"default": {queue!r}}})
"""


@dataclass
class Broker:
    """One broker, and the queue of one test in it. name: "rabbitmq" or "redis"."""

    name: str
    url: str
    queue: str = field(default_factory=lambda: f"webhooks-test-{uuid.uuid4().hex[:12]}")

    @property
    def options(self) -> dict[str, Any]:
        """Redis has keys without a queue's name in them, so all of a test's have its own before them."""
        return {"global_keyprefix": f"{self.queue}:"} if self.name == "redis" else {}

    def write_application(self, directory: Path, url: str = "") -> None:
        """Write `theirs.py`, the application of the test."""
        source = APPLICATION.format(url=url or self.url, options=self.options, queue=self.queue)
        (directory / "theirs.py").write_text(source)

    def connection(self) -> Any:
        """A connection of kombu's."""
        kombu: Any = importlib.import_module("kombu")
        return kombu.Connection(self.url, transport_options=self.options, connect_timeout=5)

    def purge(self) -> None:
        """Take out all messages of the queue."""
        with self.connection() as connection, contextlib.suppress(connection.channel_errors):
            connection.default_channel.queue_purge(self.queue)

    def waiting(self) -> int:
        """How many messages the queue holds."""
        with self.connection() as connection:
            channel = connection.default_channel
            if self.name == "redis":
                return int(channel._size(self.queue))
            with contextlib.suppress(connection.channel_errors):
                return int(channel.queue_declare(self.queue, passive=True).message_count)
        return 0

    def remove(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(Exception), self.connection() as connection:
            if self.name == "redis":
                client = connection.default_channel.client
                raw = client.connection_pool.get_connection()
                raw.send_command("KEYS", f"{self.queue}*")
                for key in raw.read_response():
                    raw.send_command("DEL", key)
                    raw.read_response()
                client.connection_pool.release(raw)
            else:
                # what a killed feeder had sent may come after its end, and declare the queue anew
                for _ in range(3):
                    connection.default_channel.queue_delete(self.queue)
                    time.sleep(0.1)


def broker_of(name: str) -> Broker:
    """The machine's broker of that kind. Skips the test where there is none."""
    pytest.importorskip("celery", reason="Celery is not installed; it is the extra celery")
    scheme = {"rabbitmq": "amqp", "redis": "redis"}[name]
    named = [url for url in os.environ.get(VARIABLE, "").split() if url.startswith(scheme)]
    url = named[0] if named else DEFAULTS[name]
    parts = urlsplit(url)
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex((parts.hostname or "", parts.port or 0)):
            pytest.skip(f"no {name} answers at {parts.hostname}:{parts.port}; {VARIABLE} names another")
    return Broker(name, url)


# -- brokers that a test may stop ------------------------------------------------------------------------------


class OwnBroker:
    """A broker of the test's own on a port of its own. Only such a one is ever stopped."""

    def __init__(self, processes: Processes, name: str) -> None:
        self._processes = processes
        self._directory = processes.directory / "broker"
        self._directory.mkdir()
        self.port = free_port()
        url = (
            f"amqp://guest:guest@127.0.0.1:{self.port}//" if name == "rabbitmq" else f"redis://127.0.0.1:{self.port}/0"
        )
        self.broker = Broker(name, url)
        self._distribution = free_port()
        program = _program(name)
        if program is None:
            pytest.skip(f"no {name} server is installed here, so none can be restarted")
        self._program = program
        self.process: Process | None = None

    def start(self) -> None:
        """Start it, and wait until it takes messages."""
        if self.broker.name == "redis":
            # nothing is kept: a restart forgets every message, as the worst case has it
            command = [
                self._program,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]
            env = {}
        else:
            command = [self._program]
            configuration = self._directory / "own.conf"
            configuration.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
            env = {
                "RABBITMQ_NODENAME": f"own{self.port}@localhost",
                "RABBITMQ_CONFIG_FILE": str(configuration),
                "RABBITMQ_DIST_PORT": str(self._distribution),
                "RABBITMQ_MNESIA_BASE": str(self._directory),
                "RABBITMQ_LOG_BASE": str(self._directory),
                "RABBITMQ_PID_FILE": str(self._directory / "pid"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "plugins"),
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "HOME": str(self._directory),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
            }
        self.process = self._processes.start(*command, env=env, cwd=self._directory)
        wait_until(self._answers, timedelta(seconds=60), f"our own {self.broker.name} to answer")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.is_running, self.process.output
        try:
            with self.broker.connection() as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except Exception:
            return False
        return True

    def kill(self) -> None:
        """kill -9 to the broker: what it kept in memory is gone."""
        assert self.process is not None
        self.process.end()


def _program(name: str) -> str | None:
    if name == "redis":
        return shutil.which("redis-server")
    # the script on the PATH changes the user and the environment
    direct = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    return direct if os.access(direct, os.X_OK) else shutil.which("rabbitmq-server")


class SilentServer:
    """A server that takes every connection and says nothing, as a broker does that hangs."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self._server.accept()[0])

    def close(self) -> None:
        """End it, and all that wait for it."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
        for connection in self.connections:
            connection.close()


@contextlib.contextmanager
def silent_server() -> Iterator[SilentServer]:
    server = SilentServer()
    try:
        yield server
    finally:
        server.close()


__all__ = ["DEFAULTS", "Broker", "OwnBroker", "SilentServer", "broker_of", "silent_server"]
