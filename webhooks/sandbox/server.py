"""The local Close over HTTP: a Flask application, and a server on this machine with a thread that delivers.

Every answer is JSON, also for what is not there and for what is no JSON. The server listens on loopback only: its
keys are in this repository.
"""

from __future__ import annotations

import ipaddress
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from webhooks.errors import ConfigurationError
from webhooks.formats import json as jsonio
from webhooks.sandbox import api, poster
from webhooks.sandbox.accounts import ADMIN_KEY, MEMBER_KEY, OAUTH_TOKEN
from webhooks.sandbox.refusals import Invalid
from webhooks.sandbox.rules import Rules
from webhooks.sandbox.subscriptions import OUTCOME_TYPES, LocalSubscription, Post
from webhooks.sandbox.world import World
from webhooks.sources.close import signature
from webhooks.sources.close.catalogue import known_types

#: Mail bodies can be large, files are not uploaded.
MAX_BODY_BYTES = 5_000_000
#: How often the server looks for what is due.
LOOK_EVERY = timedelta(milliseconds=50)

_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def create_app(world: World, post: Post = poster.post, latency: timedelta = timedelta(0)) -> Flask:
    """The API of `world` below /api/v1/, and the handles of a test below /sandbox/.

    post: how /sandbox/deliver posts. latency: how long each answer of the API takes at least.
    """
    app = Flask("webhooks.sandbox", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES

    @app.route("/api/v1/", defaults={"path": ""}, methods=_METHODS)
    @app.route("/api/v1/<path:path>", methods=_METHODS)
    def close(path: str) -> Response:
        if latency:
            time.sleep(latency.total_seconds())
        return _respond(lambda: api.answer(world, _read(path)))

    @app.route("/sandbox/<path:path>", methods=_METHODS)
    def handles(path: str) -> Response:
        return _respond(lambda: api.control(world, _read(path), post))

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        return _json(error.code or 500, {"error": error.name})

    return app


def _read(path: str) -> api.Request:
    """The request as plain data. Raises Invalid for a body that is no JSON object."""
    raw = request.get_data(cache=False)
    body: object = {}
    if raw:
        try:
            body = jsonio.load(raw)
        except jsonio.NotJSON as error:
            raise Invalid(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise Invalid("the body is no JSON object")
    return api.Request(request.method, path, request.args.to_dict(), body, request.headers.get("Authorization"))


def _respond(answer: Callable[[], api.ApiAnswer]) -> Response:
    try:
        made = answer()
    except Invalid as invalid:
        return _json(invalid.status, invalid.body)
    if made.text is not None:
        response = Response(made.text.encode("utf-8", "replace"), made.status, content_type="application/json")
    else:
        response = _json(made.status, made.body)
    response.headers.update(made.headers)
    return response


def _json(status: int, body: object) -> Response:
    return Response(jsonio.dump(body), status, content_type="application/json")


# -- the server ---------------------------------------------------------------------------------------------


class _Quiet(WSGIRequestHandler):
    """Without a line for each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class LocalClose:
    """A running local Close: `with serve(world) as close: close.url`."""

    def __init__(self, world: World, server: BaseWSGIServer, post: Post, *, pumps: bool = True) -> None:
        self.world = world
        self._server = server
        self._post = post
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="sandbox-server"),
            *([threading.Thread(target=self._pump, name="sandbox-deliveries")] if pumps else []),
        ]

    @property
    def url(self) -> str:
        """Where the API begins: http://127.0.0.1:1234/api/v1/"""
        host = f"[{self._server.host}]" if ":" in self._server.host else self._server.host
        return f"http://{host}:{self._server.port}{api.ROOT}"

    def start(self) -> Self:
        """Begin to answer and to post."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End both threads; a delivery under way is waited for."""
        self._stopping.set()
        self._server.shutdown()
        for thread in self._threads:
            thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _pump(self) -> None:
        while not self._stopping.wait(LOOK_EVERY.total_seconds()):
            self.world.deliver(self._post)


def serve(
    world: World,
    host: str = "127.0.0.1",
    port: int = 0,
    post: Post = poster.post,
    latency: timedelta = timedelta(0),
    *,
    pumps: bool = True,
) -> LocalClose:
    """A server for `world`, not yet started; port 0 takes a free one. Raises ConfigurationError.

    pumps: posts what is due by itself; else only `World.deliver` does.

    Only loopback: the keys of a local Close are known to everyone.
    """
    if not _is_loopback(host):
        raise ConfigurationError(f"the local Close listens on this machine only, not on {host!r}; use 127.0.0.1")
    app = create_app(world, post, latency)
    try:
        server = make_server(host, port, app, threaded=True, request_handler=_Quiet)
    except (OSError, SystemExit) as error:  # werkzeug ends the process when the port is taken
        raise ConfigurationError(f"cannot listen on {host}:{port}; choose a free port") from error
    return LocalClose(world, server, post, pumps=pumps)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(
    host: str = "127.0.0.1",
    port: int = 8765,
    url: str | None = None,
    seed: int = 0,
    unlisted: bool = False,
    latency: timedelta = timedelta(0),
    rules: Rules | None = None,
    secret_file: Path | None = None,
    events: Sequence[str] | None = None,
    signature_key: str | None = None,
    post: Post = poster.post,
    say: Callable[[str], None] = print,
    started: Callable[[str, LocalSubscription | None], None] = lambda api_url, subscription: None,
    until: threading.Event | None = None,
) -> None:
    """Serve a new world until interrupted, or until `until` is set. Raises ConfigurationError.

    url: subscribe this address, such as http://127.0.0.1:8000/webhooks/close.
    events: to these types; all that Close publishes when None.
    signature_key: sign with this instead of a new key; it is never said.
    secret_file: write the subscription's key there, as the source's SECRET_FILE wants it; without either it is said,
        which is fine for a key that guards nothing.
    post: how webhooks are posted.
    say: gets each line of what is going on.
    started: told where the API is, and what was subscribed, before anything is posted.
    """
    world = World(seed=seed, rules=(rules or Rules()).changed({"unlisted": unlisted} if unlisted else {}))
    with serve(world, host, port, post, latency) as close:
        say(f"a local Close listens at {close.url}")
        say(f"keys: {ADMIN_KEY} (administrator), {MEMBER_KEY}; bearer token: {OAUTH_TOKEN}")
        subscription = None
        if url is not None:
            subscription = subscribe_all(world, url, events, signature_key)
            if secret_file is not None:
                write_secret(secret_file, subscription)
                say(f"subscription {subscription.id} posts to {url}; its key is in {secret_file}")
            elif signature_key is not None:
                say(f"subscription {subscription.id} posts to {url}, signed with the key that was given")
            else:
                say(f"subscription {subscription.id} posts to {url}; its key is {subscription.signature_key}")
        started(close.url, subscription)
        with suppress(KeyboardInterrupt):
            (until or threading.Event()).wait()


def subscribe_all(
    world: World, url: str, events: Sequence[str] | None = None, signature_key: str | None = None
) -> LocalSubscription:
    """Subscribe `url` to `events`, or to all there are. signature_key: 64 hex characters; a new one when None.

    Raises Invalid, and ConfigurationError for a key that is none.
    """
    if signature_key is not None:
        try:
            signature.decode_key(signature_key)
        except ValueError as error:
            raise ConfigurationError(f"the signature_key {error}") from None
    everything = known_types() | (OUTCOME_TYPES if world.rules.unlisted else frozenset())
    pairs = [event.rpartition(".") for event in (events if events is not None else sorted(everything))]
    made = world.subscribe(url, [{"object_type": kind, "action": action} for kind, _, action in pairs])
    made.signature_key = signature_key or made.signature_key
    return made


def write_secret(path: Path, subscription: LocalSubscription) -> None:
    """Put the subscription's key into a SECRET_FILE, {label: key}, readable by its owner alone, by renaming."""
    keys: dict[str, str] = {}
    with suppress(OSError, ValueError):
        keys = dict(json.loads(path.read_text("utf-8")))
    keys[subscription.id] = subscription.signature_key
    beside = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        beside.unlink()
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(keys, file, indent=2)
    beside.replace(path)
