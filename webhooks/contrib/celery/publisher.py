"""Publish from a thread that is given up when the broker says nothing.

A broker that takes connections and does not answer blocks the caller that publishes, for as long as the socket allows or longer. So
each connection belongs to a thread; one that has not got a message out for `PATIENCE` seconds is left behind with its
connection, and ends when that ends. A few may be left behind at once; then nothing is published until one of them ends.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from webhooks.errors import WebhooksError

#: A message must be out within so many seconds.
PATIENCE = 5.0
#: Threads that may be left behind at once.
MOST_ABANDONED = 4

#: (queue of the engine, ids of deliveries)
Message = tuple[str, Sequence[int]]


class BrokerUnavailable(WebhooksError):
    """The broker did not take a message. reason: why, for people, without its address."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Sender(Protocol):
    """One connection to the broker. Used by one thread."""

    def send(self, queue: str, ids: Sequence[int]) -> None:
        """Have a message out. Raises whatever its library raises."""

    def close(self) -> None:
        """End the connection, without waiting for the broker."""


class Publisher:
    """Publishes messages one after the other. connect: makes a sender, and need not open it; called in its thread."""

    def __init__(self, connect: Callable[[], Sender], patience: float = PATIENCE) -> None:
        self._connect = connect
        self._patience = patience
        self._thread: _Thread | None = None
        self._abandoned: list[_Thread] = []

    def publish(self, message: Message) -> None:
        """Have a message out. Raises `BrokerUnavailable`."""
        self._abandoned = [thread for thread in self._abandoned if thread.is_alive()]
        if self._thread is None:
            if len(self._abandoned) >= MOST_ABANDONED:
                raise BrokerUnavailable(f"{len(self._abandoned)} connections to it wait for an answer")
            self._thread = _Thread(self._connect)
            self._thread.start()
        try:
            error = self._thread.do(message, self._patience)
        except queue.Empty:
            self._thread.end()
            self._abandoned.append(self._thread)
            self._thread = None
            raise BrokerUnavailable(f"it did not answer within {self._patience:g} s") from None
        if error is not None:
            raise BrokerUnavailable(_why(error)) from error

    def close(self) -> None:
        """End the thread, and wait for it for a moment."""
        if self._thread is not None:
            self._thread.end()
            self._thread.join(1.0)
            self._thread = None


class _Thread(threading.Thread):
    """Holds one sender. What it could not send has an error as its answer, and a new connection follows."""

    def __init__(self, connect: Callable[[], Sender]) -> None:
        super().__init__(name="webhooks-publish", daemon=True)
        self._connect = connect
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def do(self, message: Message, patience: float) -> Exception | None:
        """Have a message sent; what was raised by it. Raises `queue.Empty` when nothing came of it in time."""
        self._inbox.put(message)
        return self._outbox.get(timeout=patience)

    def end(self) -> None:
        """Have it end once it is free."""
        self._inbox.put(None)

    def run(self) -> None:
        """Send what comes."""
        sender: Any = None
        while (message := self._inbox.get()) is not None:
            try:
                if sender is None:
                    sender = self._connect()
                sender.send(*message)
            except Exception as error:
                _close(sender)
                sender = None
                self._outbox.put(error)
            else:
                self._outbox.put(None)
        _close(sender)


def _close(sender: Any) -> None:
    if sender is not None:
        with contextlib.suppress(Exception):
            sender.close()


def _why(error: Exception) -> str:
    """Why the broker did not take it, without what its library writes, which may hold the address with a password."""
    cause = error.__cause__ or error
    if isinstance(cause, TimeoutError):
        return "it did not answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return f"it cannot be reached: {cause.strerror}"
    return f"{type(cause).__name__} while it was told"


__all__ = ["PATIENCE", "BrokerUnavailable", "Message", "Publisher", "Sender"]
