"""Each kind of target is sent a message once, over a receiver on this machine; what goes wrong says nothing of the address."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support import START
from webhooks.model import Headers, InboundRequest
from webhooks.operations.alarms.messages import Notice, notice
from webhooks.operations.alarms.targets import NotTold, call, send, standard_headers
from webhooks.operations.alarms.telling import Tell, TellKind
from webhooks.settings import AlarmTarget, Secret, SourceSettings
from webhooks.sources import make_source
from webhooks.store import AlarmRow

KEY = "whsec_" + base64.b64encode(b"a key of twenty-four bytes").decode()
TOKEN = "T0KEN-that-is-secret"


class Receiver:
    """A server of this machine that answers `status` and keeps what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        receiver = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *arguments: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{TOKEN}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def message() -> Notice:
    return notice(
        [Tell(TellKind.RAISED, AlarmRow("dead", "crm", START, 2, "handler crm: 2 <died> & more", 2, 77))], START
    )


def written(text: str, name: str = "url") -> Path:
    path = Path(name)
    path.write_text(f"{text}\n")
    return path


def test_slack_gets_lines_with_its_marks_escaped(receiver: Receiver, message: Notice) -> None:
    send(AlarmTarget("ops", "slack", url_file=written(receiver.url)), message)
    ((path, headers, body),) = receiver.got
    assert path == f"/services/{TOKEN}"
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["text"].splitlines()[:2] == ["[warning] dead crm", "handler crm: 2 &lt;died&gt; &amp; more"]


def test_a_webhook_is_signed_as_our_own_source_verifies(receiver: Receiver, message: Notice) -> None:
    target = AlarmTarget("ops", "webhook", url_file=written(receiver.url), secret_file=written(KEY, "key"))
    send(target, message)
    ((_, headers, body),) = receiver.got
    assert json.loads(body) == message.document()
    source = make_source(SourceSettings("ops", "standard", (Secret(KEY),)))
    source.verify(InboundRequest(Headers(headers), body, id="r"), datetime.now(UTC))


def test_the_signature_is_the_one_of_the_specification() -> None:
    """The example of the Standard Webhooks libraries, tests of the reference implementation (read 2026-11-29)."""
    body = b'{"test": 2432232314}'
    example = Notice("msg_p5jXN8AQM9LWM0D4loKWxJek", TellKind.RAISED, "dead", "crm", message_severity(), "", START)
    headers = standard_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", example, body, datetime.fromtimestamp(1614265330, UTC)
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def message_severity() -> Any:
    from webhooks.operations.alarms.table import Severity

    return Severity.WARNING


@pytest.mark.parametrize("status", [301, 302, 307, 400, 410, 500])
def test_anything_but_a_2xx_is_not_told_and_no_redirect_is_followed(
    receiver: Receiver, message: Notice, status: int
) -> None:
    receiver.status = status
    with pytest.raises(NotTold, match=f"it answered {status}") as caught:
        send(AlarmTarget("ops", "slack", url_file=written(receiver.url)), message)
    assert TOKEN not in str(caught.value)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://hooks.example.com/T0KEN-that-is-secret", "not https, and not of this machine"),
        ("http://10.0.0.1/T0KEN-that-is-secret", "not https, and not of this machine"),
        ("ftp://127.0.0.1/T0KEN-that-is-secret", "no https://… address"),
        ("https:///T0KEN-that-is-secret", "no https://… address"),
        ("http://127.0.0.1:1/T0KEN-that-is-secret", "it cannot be reached"),
        ("http://127.0.0.1:99999/T0KEN-that-is-secret", "no https://… address"),
        ("http://127.0.0.1/a b T0KEN-that-is-secret", "no https://… address"),
        ("", "no https://… address"),
    ],
)
def test_an_address_that_may_not_be_called_is_not_told(message: Notice, url: str, text: str) -> None:
    with pytest.raises(NotTold, match=text) as caught:
        send(AlarmTarget("ops", "slack", url_file=written(url)), message)
    assert TOKEN not in str(caught.value)


def test_a_file_that_is_gone_is_named_and_no_more(message: Notice) -> None:
    with pytest.raises(NotTold, match="its file 'slack' cannot be read"):
        send(AlarmTarget("ops", "slack", url_file=Path("secrets/slack")), message)


def test_a_key_that_is_none_is_not_told(receiver: Receiver, message: Notice) -> None:
    target = AlarmTarget("ops", "webhook", url_file=written(receiver.url), secret_file=written("no key!", "key"))
    with pytest.raises(NotTold) as caught:
        send(target, message)
    assert "no key" not in str(caught.value)
    assert receiver.got == []


def test_a_program_gets_the_document_on_its_standard_input(message: Notice) -> None:
    code = "import sys; open('got', 'wb').write(sys.stdin.buffer.read())"
    send(AlarmTarget("ops", "command", command=(sys.executable, "-c", code)), message)
    assert json.loads(Path("got").read_bytes()) == message.document()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ((sys.executable, "-c", "raise SystemExit(3)"), "its program ended with 3"),
        (("/nowhere/to/be/found",), "its program cannot be started: No such file"),
    ],
)
def test_a_program_that_fails_is_not_told(message: Notice, command: tuple[str, ...], text: str) -> None:
    with pytest.raises(NotTold, match=text):
        send(AlarmTarget("ops", "command", command=command), message)


def test_a_program_that_hangs_is_ended(message: Notice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webhooks.operations.alarms.targets.PROGRAM_SECONDS", 0.2)
    with pytest.raises(NotTold, match=r"took longer than 0\.2 s"):
        send(
            AlarmTarget("ops", "command", command=(sys.executable, "-c", "input()\nimport time; time.sleep(60)")),
            message,
        )


def test_a_mail_has_the_title_as_its_subject(message: Notice, mail: list[bytes], mail_port: int) -> None:
    target = AlarmTarget(
        "ops",
        "email",
        smtp_host="127.0.0.1",
        smtp_port=mail_port,
        tls="none",
        sender="a@example.com",
        to=("b@example.com",),
    )
    send(target, message)
    (letter,) = mail
    assert b"Subject: [warning] dead crm" in letter
    assert b"type: webhooks deliveries list --state dead --handler crm" in letter


def test_a_mail_in_the_clear_stays_on_this_machine(message: Notice) -> None:
    target = AlarmTarget(
        "ops", "email", smtp_host="mail.example.com", tls="none", sender="a@b.example", to=("c@d.example",)
    )
    with pytest.raises(NotTold, match="mail without TLS goes to this machine only"):
        send(target, message)


def test_a_server_that_lacks_tls_gets_no_mail(message: Notice, mail: list[bytes], mail_port: int) -> None:
    target = AlarmTarget(
        "ops", "email", smtp_host="127.0.0.1", smtp_port=mail_port, sender="a@b.example", to=("c@d.example",)
    )
    with pytest.raises(NotTold, match="SMTPNotSupportedError"):
        send(target, message)
    assert mail == []


@pytest.fixture
def mail() -> list[bytes]:
    """The mails that the server of `mail_port` got."""
    return []


@pytest.fixture
def mail_port(mail: list[bytes]) -> Iterator[int]:
    """The port of a mail server of this machine, without TLS."""
    import socketserver

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().strip().upper():
                if line == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    letter = b""
                    while (part := self.rfile.readline()) != b".\r\n":
                        letter += part
                    mail.append(letter)
                elif line == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                self.wfile.write(b"250 fine\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Session) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("fails", "path"), [(False, ""), (True, "/fail")])
def test_the_dead_mans_switch_is_called(receiver: Receiver, fails: bool, path: str) -> None:
    call(receiver.url, fails=fails)
    assert [each[0] for each in receiver.got] == [f"/services/{TOKEN}{path}"]
