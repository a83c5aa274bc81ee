"""`/metrics`, `/metrics/database` and `/autoscale` on the web port: for a client that has the token, and for no other."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug import exceptions

from webhooks.http.answers import json_answer, of_http_error
from webhooks.http.metrics.autoscale import Autoscale
from webhooks.http.metrics.exposition import CONTENT_TYPE, Exposition
from webhooks.http.metrics.tokens import is_authorized
from webhooks.http.routes import is_plainly_spelled
from webhooks.model import new_request_id


def make_metrics_blueprint(exposition: Exposition, autoscale: Autoscale, *, token: str, name: str) -> Blueprint:
    """The three routes. token: what a scraper, or scaler, sends as `Authorization: Bearer …`."""
    blueprint = Blueprint(name, __name__)

    @blueprint.before_request
    def require_token() -> Response | None:
        if not is_plainly_spelled(request.environ):
            return of_http_error(exceptions.NotFound()).as_response()
        if is_authorized(request.environ.get("HTTP_AUTHORIZATION", ""), token):
            return None
        response = json_answer(401, {"error": "unauthorized", "request_id": new_request_id()}).as_response()
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    @blueprint.get("/metrics")
    def process() -> Response:
        return text(exposition.process())

    @blueprint.get("/metrics/database")
    def database() -> Response:
        return text(exposition.database())

    @blueprint.get("/autoscale")
    def scale() -> Response:
        status, body = autoscale.answer(request.environ.get("QUERY_STRING", ""))
        return Response(body, status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])

    return blueprint


def text(body: bytes) -> Response:
    """What a scraper gets; nothing on the way keeps it."""
    return Response(body, 200, [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store")])


__all__ = ["make_metrics_blueprint"]
