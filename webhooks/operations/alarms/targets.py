"""Send a message to a target: Slack, a signed webhook, e-mail, or a program. One attempt each; when to try is `telling`'s.

Promises: HTTPS, or plain HTTP to this machine; no redirect is followed; `PATIENCE` for each step of an HTTP request or a
mail (connect, send, answer), `PROGRAM_SECONDS` for a program. What fails is a `NotTold` whose text holds no address, key or answer.

A file with an address or a key is read at each attempt, so a changed one needs no restart.
"""

from __future__ import annotations

import base64
import contextlib
import email.message
import hmac
import http.client
import ipaddress
import json
import smtplib
import ssl
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from webhooks.errors import WebhooksError
from webhooks.operations.alarms.messages import Notice
from webhooks.operations.alarms.table import Severity
from webhooks.settings import AlarmTarget

#: Seconds for one step of a request: to connect, to send, to answer.
PATIENCE = 5.0
#: Seconds that a program may take.
PROGRAM_SECONDS = 10.0


class NotTold(WebhooksError):
    """A target did not take a message. Its text says why, without the address."""


def send(target: AlarmTarget, notice: Notice) -> None:
    """Give a message to a target once. Raises `NotTold`."""
    try:
        _SENDERS[target.kind](target, notice)
    except NotTold:
        raise
    except (OSError, http.client.HTTPException, smtplib.SMTPException, ValueError) as error:
        raise NotTold(_why(error)) from error


def call(url: str, *, fails: bool = False) -> None:
    """Call a dead man's switch. fails: its address for trouble, `…/fail`. Raises `NotTold`."""
    try:
        _request("GET", url.rstrip("/") + "/fail" if fails else url, b"", {})
    except NotTold:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotTold(_why(error)) from error


def _why(error: Exception) -> str:
    """Why an attempt failed, in words that hold nothing of the address."""
    if isinstance(error, ssl.SSLError):
        return "its TLS certificate or protocol was refused"
    if isinstance(error, TimeoutError):
        return f"it did not answer within {PATIENCE:g} s"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the mail server answered {error.smtp_code}"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be reached: {error.strerror}"
    return f"{type(error).__name__} while it was told"


def _read(path: Path | None) -> str:
    """The one line of a file with an address or a key. Raises `NotTold`."""
    if path is None:
        raise NotTold("the file with its address or key is not configured")
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise NotTold(f"its file {path.name!r} cannot be read") from None


# -- HTTP ----------------------------------------------------------------------------------------------------


def _request(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """One request. Anything but a 2xx is a `NotTold`; a redirect is not followed."""
    parts = _require_safe(url)
    connection = _connection(parts)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(connection):
        connection.request(method, path, body or None, {"User-Agent": "webhooks", **headers})
        status = connection.getresponse().status
    if not 200 <= status < 300:
        redirect = "; redirects are not followed" if 300 <= status < 400 else ""
        raise NotTold(f"it answered {status}{redirect}")


def _require_safe(url: str) -> SplitResult:
    """The parts of an address that may be called. Raises `NotTold`."""
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or any(character <= " " or character > "~" for character in url):
        raise NotTold("its address is no https://… address")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise NotTold("its address is not https, and not of this machine")
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=PATIENCE)
    return http.client.HTTPSConnection(host, parts.port, timeout=PATIENCE, context=ssl.create_default_context())


def _slack(target: AlarmTarget, notice: Notice) -> None:
    # `<`, `>` and `&` are Slack's own marks: https://docs.slack.dev/messaging/formatting-message-text
    lines = "\n".join(notice.lines()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body = json.dumps({"text": lines}).encode()
    _request("POST", _read(target.url_file), body, {"Content-Type": "application/json"})


def _webhook(target: AlarmTarget, notice: Notice) -> None:
    body = json.dumps(notice.document(), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", **standard_headers(_read(target.secret_file), notice, body)}
    _request("POST", _read(target.url_file), body, headers)


def standard_headers(secret: str, notice: Notice, body: bytes, at: datetime | None = None) -> dict[str, str]:
    """The three headers of Standard Webhooks.

    secret: `whsec_…`, base64.
    at: the time to sign; default: now, by this machine's clock.
    Raises ValueError for a secret that is none.
    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    seconds = str(int((at or datetime.now().astimezone()).timestamp()))
    mac = hmac.digest(key, b".".join((notice.id.encode(), seconds.encode(), body)), "sha256")
    return {
        "webhook-id": notice.id,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


# -- e-mail and programs ---------------------------------------------------------------------------------------


def _email(target: AlarmTarget, notice: Notice) -> None:
    message = email.message.EmailMessage()
    message["Subject"] = notice.title
    message["From"] = target.sender
    message["To"] = ", ".join(target.to)
    message["Auto-Submitted"] = "auto-generated"
    if notice.severity is Severity.CRITICAL:
        message["Importance"] = "high"
    message.set_content("\n".join(notice.lines()[1:]) + "\n")
    with _smtp(target) as server:
        if target.user:
            server.login(target.user, _read(target.password_file))
        server.send_message(message)


def _smtp(target: AlarmTarget) -> smtplib.SMTP:
    """An open session with the mail server. Raises `NotTold` where it would go over the network in the clear."""
    if target.tls == "tls":
        return smtplib.SMTP_SSL(
            target.smtp_host, target.smtp_port, timeout=PATIENCE, context=ssl.create_default_context()
        )
    if target.tls == "none" and not _is_loopback(target.smtp_host):
        raise NotTold("mail without TLS goes to this machine only; set tls to starttls or tls")
    server = smtplib.SMTP(target.smtp_host, target.smtp_port, timeout=PATIENCE)
    if target.tls == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def _command(target: AlarmTarget, notice: Notice) -> None:
    document = json.dumps(notice.document(), ensure_ascii=False).encode() + b"\n"
    try:
        done = subprocess.run(
            list(target.command),
            input=document,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotTold(f"its program took longer than {PROGRAM_SECONDS:g} s") from None
    except OSError as error:
        raise NotTold(f"its program cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        raise NotTold(f"its program ended with {done.returncode}")


_SENDERS: Mapping[str, Callable[[AlarmTarget, Notice], None]] = {
    "slack": _slack,
    "webhook": _webhook,
    "email": _email,
    "command": _command,
}

__all__ = ["NotTold", "call", "send", "standard_headers"]
