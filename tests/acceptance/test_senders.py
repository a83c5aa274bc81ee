"""What senders do with HTTP itself, against a real server of each worker class; and a token in an address is in no log and no row.

The habits of `docs/sources.md` are tested one by one in-process (`tests/integration/test_sixty.py`); here are those in which a server,
its parser or its worker class could have a say.
"""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
from sqlalchemy import text

from tests.acceptance.support import Process, Processes, free_port, send
from tests.support import some, wait_until
from webhooks.database.connect import connect

KEY = "tf-9c41d07be8a35f62c0d1"
TOKEN = "tk-5b1e7f09a3c84d26e7f0"
#: Where the sender says that it calls; signed by some.
ADDRESS = "https://in.example.org/webhooks/"
SETTINGS = f"""
[sources.dropbox]
secret = "{KEY}"

[sources.okta]
secret = "{KEY}"
accept_unsigned_body = true

[sources.graph]
scheme = "microsoft-graph"
secret = "{KEY}"
accept_unsigned_body = true

[sources.woocommerce]
secret = "{KEY}"

[sources.xero]
secret = "{KEY}"

[sources.trello]
secret = "{KEY}"
public_url = "{ADDRESS}trello"

[sources.mandrill]
secret = "{KEY}"
public_url = "{ADDRESS}mandrill"

[sources.zipped]
scheme = "custom"
secret = "{KEY}"
signature = "@x-signature"
gzip = true

[sources.feed]
scheme = "custom"
secret = "{KEY}"
signature = "@x-signature"
body = "raw"
type = "feed"
methods = ["POST", "PUT"]

[sources.hook]
scheme = "custom"
algorithm = "token"
secret = "{TOKEN}"
signature = "query:token"
accept_unsigned_body = true
body = "json-or-form"
methods = ["POST", "GET"]
type = "{{type}}"
id = ""

[sources.cloud]
scheme = "custom"
secret = "{KEY}"
signature = "@x-signature"
type = "{{type}}"

[sources.cloud.handshake]
method = "OPTIONS"
challenge = "@webhook-request-origin"
answer = ""
headers = {{ WebHook-Allowed-Origin = "{{challenge}}" }}
"""


def mac(raw: bytes, digest: str = "sha256") -> bytes:
    return hmac.new(KEY.encode(), raw, digest).digest()


def b64(raw: bytes, digest: str = "sha256") -> str:
    return base64.b64encode(mac(raw, digest)).decode()


@dataclass(frozen=True)
class Call:
    """One request and its answer. says: the whole body of the answer; None for ours. kinds: types of what is stored."""

    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    status: int = 200
    says: bytes | None = None
    has: Mapping[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()


EVENT = json.dumps({"type": "message.new", "text": "é" * 400}).encode()
MAIL = [{"event": "open", "_id": "m1", "ts": 1}, {"event": "click", "_id": "m2", "ts": 2}]
XERO = b'{"events":[],"entropy":"x"}'
CARD = b'{"action":{"id":"a1","type":"updateCard"},"model":{"id":"m"}}'
XML = b"<?xml version='1.0'?><feed/>"

CALLS = (
    Call("dropbox?challenge=abc-1", method="GET", says=b"abc-1"),
    Call("dropbox?challenge=%3Cb%3E", method="GET", status=401),
    Call("okta", headers={"X-Okta-Verification-Challenge": "a-1"}, method="GET", says=b'{"verification":"a-1"}'),
    Call("graph?validationToken=Validation%3A+Testing", b"", says=b"Validation: Testing", has={"content-type": "text/plain; charset=utf-8"}),
    Call("cloud", headers={"WebHook-Request-Origin": "eventgrid.azure.net"}, method="OPTIONS", says=b"", has={"webhook-allowed-origin": "eventgrid.azure.net"}),
    Call("woocommerce", b"webhook_id=12", {"Content-Type": "application/x-www-form-urlencoded"}, says=b""),
    Call("trello", method="HEAD", says=b""),
    Call("trello", CARD, {"X-Trello-Webhook": b64(CARD + (ADDRESS + "trello").encode(), "sha1")}, kinds=("updateCard",)),
    Call("nowhere", method="HEAD", status=404, says=b""),
    Call("xero", XERO, {"X-Xero-Signature": b64(XERO)}, says=b""),
    Call("xero", XERO, {"X-Xero-Signature": b64(XERO + b" ")}, status=401),
    Call(
        "mandrill",
        urlencode({"mandrill_events": json.dumps(MAIL)}).encode(),
        {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Mandrill-Signature": b64(f"{ADDRESS}mandrillmandrill_events{json.dumps(MAIL)}".encode(), "sha1"),
        },
        kinds=("open", "click"),
    ),
    Call("zipped", gzip.compress(EVENT), {"Content-Encoding": "gzip", "X-Signature": mac(EVENT).hex()}, kinds=("message.new",)),
    Call("zipped", gzip.compress(b" " * 2_000_000), {"Content-Encoding": "gzip", "X-Signature": "00"}, status=413),
    Call("cloud", gzip.compress(EVENT), {"Content-Encoding": "gzip", "X-Signature": mac(EVENT).hex()}, status=415),
    Call("feed", XML, {"Content-Type": "application/atom+xml", "X-Signature": mac(XML).hex()}, method="PUT", kinds=("feed",)),
    Call("feed", XML, {"X-Signature": mac(XML).hex()}, method="PATCH", status=405),
    Call(f"hook?token={TOKEN}", b'{"type":"push"}', kinds=("push",)),
    Call(f"hook?type=ping&token={TOKEN}", method="GET", kinds=("ping",)),
    Call(f"hook?token={TOKEN[:-1]}", b'{"type":"push"}', status=401),
    Call(f"hook?token={TOKEN}&token={TOKEN}", b'{"type":"push"}', status=401),
)  # fmt: skip


class Server:
    """`webhooks run` with `SETTINGS` under one worker class, and with gunicorn's access log, which an operator may want."""

    def __init__(self, processes: Processes, database_url: str, worker_class: str, directory: Path) -> None:
        (directory / "webhooks.toml").write_text(SETTINGS)
        self.port = free_port()
        self.database_url = database_url
        self.process: Process = processes.start(
            *("webhooks", "run", "--", "--bind", f"127.0.0.1:{self.port}", "--workers", "1", "--access-logfile", "-"),
            env={
                "DATABASE_URL": database_url,
                "WEBHOOKS_WORKER_CLASS": worker_class,
            },
        )
        self.process.wait_for(r"Booting worker")
        wait_until(self._is_ready, timedelta(seconds=20), f"{worker_class} to be ready")

    def _is_ready(self) -> bool:
        try:
            return send(f"http://127.0.0.1:{self.port}/readyz").status == 200
        except OSError:
            return False

    def raw(self, data: bytes) -> bytes:
        """What comes for bytes on the wire."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as wire:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(65536):
                answer += piece
        return answer

    def types(self) -> list[str]:
        database = connect(self.database_url)
        try:
            with database.read() as connection:
                return list(connection.execute(text("select type from webhooks_events order by id")).scalars())
        finally:
            database.dispose()


@pytest.mark.parametrize("worker_class", some("gevent", "gthread"))
def test_senders_are_answered_alike_and_a_token_in_an_address_is_kept_nowhere(
    processes: Processes, sqlite_url: str, tmp_path: Path, worker_class: str
) -> None:
    server = Server(processes, sqlite_url, worker_class, tmp_path)
    for call in CALLS:
        before = server.types()
        answer = send(
            f"http://127.0.0.1:{server.port}/webhooks/{call.path}", call.body, call.headers, method=call.method
        )
        assert answer.status == call.status, (call, answer)
        assert call.says is None or answer.body == call.says, (call, answer)
        assert {name: answer.headers.get(name) for name in call.has} == call.has
        assert server.types()[len(before) :] == list(call.kinds), call
    blanks = b"POST /webhooks/cloud HTTP/1.1\r\nHost: x\r\nX-Signature: \t%b \t\r\nContent-Length: %d\r\n\r\n%b"
    assert b" 200 " in server.raw(blanks % (mac(EVENT).hex().encode(), len(EVENT), EVENT)).partition(b"\r\n")[0]
    for line in (
        b"POST /webhooks/hook?token=%b HTTP/9.9",
        b"PO ST /webhooks/hook?token=%b HTTP/1.1",
        b"POST hook?token=%b",
        b"POST / HTTP/1.1\r\nX-Token %b",
        b"POST /webhooks/hook?token=%b HTTP/1.1\r\nContent-Length: x",
    ):
        server.raw(line % TOKEN.encode() + b"\r\nHost: x\r\n\r\n")
    server.process.stop()
    assert "/webhooks/hook" in server.process.output
    assert TOKEN not in server.process.output
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("webhooks.db*"))
    assert b"message.new" in kept
    assert [kept[max(0, at - 200) : at + 60] for at in positions(TOKEN.encode(), kept)] == []


def positions(piece: bytes, whole: bytes) -> list[int]:
    return [match.start() for match in re.finditer(re.escape(piece), whole)]
