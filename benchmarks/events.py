"""Events as Close would post them: a real payload at a wanted size, new ids each time, signed when it is sent."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources

from webhooks.sources.close import signature

SAMPLE = "payloads/whatsapp_message_created_incoming.json"
#: For loopback servers that live for seconds; the hex text is what goes into a server's settings.
KEY = hashlib.sha256(b"a key for loopback servers").digest()
SECRET = KEY.hex()

_EVENT_ID = "ev_%022d"
_OBJECT_ID = "acti_%043d"


def make_bodies(size: int = 2100, prefix: int | None = None) -> Callable[[], tuple[str, bytes]]:
    """A function that makes the next event: its id and its body of about `size` bytes.

    prefix: tells the ids of one run from those of another; by default this process and time.
    """
    sample = json.loads(resources.files("webhooks.sources.close").joinpath(SAMPLE).read_text("utf-8"))
    event = sample["event"]
    event["id"], event["object_id"], event["data"]["id"] = "\x01", "\x02", "\x02"
    event["data"]["attachments"] = []
    event["data"]["message_html"] = event["data"]["message_markdown"] = ""
    missing = size - len(json.dumps(sample, separators=(",", ":")).encode()) - 60
    event["data"]["text"] += " and so on" * max(0, -(-missing // 10))
    parts = json.dumps(sample, separators=(",", ":")).encode().split(b"\\u0001")
    if len(parts) != 2:
        raise RuntimeError("the sample payload names its own event id twice; choose another")
    before, after = parts[0], parts[1].split(b"\\u0002")
    if prefix is None:
        prefix = (os.getpid() % 10**5) * 10**5 + int(datetime.now(UTC).timestamp()) % 10**5
    numbers = itertools.count(prefix * 10**9)

    def make() -> tuple[str, bytes]:
        number = next(numbers)
        id = _EVENT_ID % number
        return id, before + id.encode() + (_OBJECT_ID % number).encode().join(after)

    return make


def sign(body: bytes) -> dict[str, str]:
    """The headers that Close would add now."""
    return signature.sign(KEY, body, datetime.now(UTC))


def make_requests(path: str, bodies: Callable[[], tuple[str, bytes]]) -> Callable[[], bytes]:
    """A function that makes the next signed request, as bytes for a kept-alive connection."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: benchmark\r\nAccept: */*\r\n"
        "Content-Type: application/json\r\nContent-Length: %d\r\nclose-sig-hash: %s\r\nclose-sig-timestamp: %s\r\n\r\n"
    )

    def make() -> bytes:
        _, body = bodies()
        signed = sign(body)
        return (head % (len(body), signed["close-sig-hash"], signed["close-sig-timestamp"])).encode() + body

    return make
