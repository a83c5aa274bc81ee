"""What a request gets: answers as bytes, before any framework has them.

Every answer of ours is JSON with `status` or `error`, and `request_id`, but those that a sender's protocol fixes. A
refusal says its kind and nothing else; why, the log and `explain` say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from flask import Response
from werkzeug import exceptions

from webhooks.errors import (
    BadHost,
    IncompleteBody,
    MethodNotAllowed,
    PayloadTooLarge,
    Rejected,
    RequestTimeout,
    StorageUnavailable,
    UnsupportedEncoding,
)
from webhooks.intake import Accepted
from webhooks.model import Challenge, Disposition, Receipt, new_request_id

_encode = msgspec.json.Encoder().encode
#: Of several events in one body, the answer names the most severe.
_SEVERITY = (
    Disposition.DUPLICATE, Disposition.STALE, Disposition.REVISION, Disposition.STORED, Disposition.QUARANTINED,
)  # fmt: skip
#: The status of a body whose list of events is empty.
NO_EVENTS = "empty"
NEVER_KEPT = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
#: Refusals after which the rest of a request is not read.
_LEAVES_A_BODY = (PayloadTooLarge, IncompleteBody, RequestTimeout, UnsupportedEncoding, BadHost)
#: Seconds after which a sender may try again what failed by a fault of ours.
_FAULT_RETRY_SECONDS = 30


class PlainAnswer(NamedTuple):
    """What a request gets. headers: without those that frame it."""

    status: int
    body: bytes
    headers: list[tuple[str, str]]

    def as_response(self) -> Response:
        """The same as Flask wants it."""
        return Response(self.body, self.status, self.headers)


def receipt_body(accepted: Accepted, request_id: str) -> dict[str, Any]:
    """The JSON of a 200; ids as decimal strings."""
    if accepted.quarantine_id is not None:
        return {
            "status": Disposition.QUARANTINED,
            "event_id": None,
            "quarantine_id": str(accepted.quarantine_id),
            "request_id": request_id,
        }
    receipts = accepted.receipts
    if len(receipts) == 1:
        return {"status": receipts[0].status, "event_id": _id(receipts[0]), "request_id": request_id}
    status = max((receipt.status for receipt in receipts), key=_SEVERITY.index, default=NO_EVENTS)
    return {"status": status, "events": [_receipt(receipt) for receipt in receipts], "request_id": request_id}


def _receipt(receipt: Receipt) -> dict[str, Any]:
    """One of several events."""
    found: dict[str, Any] = {"status": receipt.status, "event_id": _id(receipt)}
    if receipt.quarantine_id is not None:
        found["quarantine_id"] = str(receipt.quarantine_id)
    return found


def _id(receipt: Receipt) -> str | None:
    return None if receipt.event_id is None else str(receipt.event_id)


def fixed(challenge: Challenge) -> PlainAnswer:
    """An answer that the sender's protocol fixes; never interpreted as anything else."""
    headers = [("Content-Type", challenge.content_type), *challenge.headers, *NEVER_KEPT]
    return PlainAnswer(challenge.status, challenge.body, headers)


def json_answer(status: int, body: dict[str, Any]) -> PlainAnswer:
    """A JSON answer that no client caches or interprets otherwise. body: what is encoded."""
    return PlainAnswer(status, _encode(body), [("Content-Type", "application/json"), *NEVER_KEPT])


def refusal(error: Exception, request_id: str, *, has_body: bool) -> PlainAnswer:
    """What the failure of a request means for its sender. has_body: whether the request came with one."""
    if isinstance(error, Rejected):
        refused = json_answer(error.status, {"error": error.slug, "request_id": request_id})
        if isinstance(error, MethodNotAllowed):
            refused.headers.append(("Allow", error.allowed))
        if isinstance(error, _LEAVES_A_BODY) or (isinstance(error, MethodNotAllowed) and has_body):
            refused.headers.append(("Connection", "close"))  # what is left of the body is no next request
        return refused
    if isinstance(error, StorageUnavailable):
        slug, seconds = error.slug, max(1, int(error.retry_after.total_seconds()))
    else:
        # a fault of ours must not become the sender's loss: it tries again
        slug, seconds = "internal_error", _FAULT_RETRY_SECONDS
    refused = json_answer(503, {"error": slug, "request_id": request_id})
    refused.headers.append(("Retry-After", str(seconds)))
    return refused


def of_http_error(error: exceptions.HTTPException, request_id: str = "") -> PlainAnswer:
    """Flask's own errors (404, 405, 413 …) in our shape. request_id: of the request; a new one where there is none."""
    slugs = {404: "not_found", 405: "method_not_allowed", 413: "payload_too_large", 400: "bad_request"}
    status = error.code or 500
    if 300 <= status < 400:  # a redirect would lose a POST's body
        status = 404
    body = {"error": slugs.get(status, "error"), "request_id": request_id or new_request_id()}
    found = json_answer(status, body)
    if isinstance(error, exceptions.MethodNotAllowed) and error.valid_methods is not None:
        found.headers.append(("Allow", ", ".join(sorted(error.valid_methods))))
    return found
