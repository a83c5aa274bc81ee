"""Whether a source could ever verify a request: it signs a sample as its row says, and verifies it.

A configuration that contradicts itself (a prefix that `split` cuts, a field that nothing fills) starts otherwise and refuses
every request. Not tried: keys that only the sender has, tokens in an address, and bodies other than JSON that carry their signature.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from webhooks.errors import ConfigurationError, Rejected, StorageUnavailable
from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest
from webhooks.sources.declared.fields import json_path
from webhooks.sources.declared.scheme import JWT

if TYPE_CHECKING:
    from webhooks.sources.declared.source import DeclaredSource

#: Any instant will do.
_NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)


def why_not_tried(source: DeclaredSource) -> str | None:
    """Why a source cannot be tried this way, in one line; None when it can be."""
    row = source.row
    if row.certificate or row.algorithm == JWT:
        return "only the sender makes its tokens" if row.algorithm == JWT else "only the sender has the key"
    if not source.keys.current() and "signing_key" not in source.settings.options:
        return "its secrets come from secrets_from, or have not been brought yet"
    if any(place.startswith("query:") for place in row.signature):
        return "its token stands in the address"
    if row.is_in_body and row.body not in ("json", "json-or-form"):
        return "its signature stands in a form"
    try:
        source.signing_key.sign(b"")
    except ConfigurationError:
        return "only the sender has the private key; set signing_key to try with one of your own"
    return None


def sample_request(source: DeclaredSource, now: datetime) -> InboundRequest:
    """A request that the source signs itself."""
    body = source.prepare(sample_body(source), now)
    query = source.settings.public_url.partition("?")[2].encode("utf-8")
    method = "POST" if "POST" in source.methods else sorted(source.methods)[0]
    return InboundRequest(Headers(source.sign(body, now)), body, method, query, source.settings.public_url)


def sample_body(source: DeclaredSource) -> bytes:
    """A body with all that a row asks for to verify it."""
    row = source.row
    if "{form}" in row.signed or row.body == "form":
        return b"a=1"
    if not row.is_in_body and not row.expect and (not row.timestamp or row.timestamp.startswith(("@", "part:"))):
        return b"{}"
    part: dict[str, Any] = {}
    for path, texts in row.expect.items():
        _fill(part, path, texts[0])
    if row.timestamp and not row.timestamp.startswith(("@", "part:")):
        from webhooks.sources.signing import write_instant

        _fill(part, row.timestamp, write_instant(_NOW, row.timestamp_format))
    if not row.is_in_body or not row.items:
        return jsonio.dump(part)
    if row.unwrap:
        whole: dict[str, Any] = {}
        _fill(whole, row.unwrap, part)
        part = whole
    if row.items[0] == ".":
        return jsonio.dump([part])
    body: dict[str, Any] = {}
    _fill(body, row.items[0], [part])
    return jsonio.dump(body)


def _fill(holder: dict[str, Any], path: str, value: Any) -> None:
    *way, last = [str(step) for step in json_path(path).steps]
    for step in way:
        holder = holder.setdefault(step, {})
    holder[last] = value


def why_never_verifies(source: DeclaredSource) -> str | None:
    """Why a source would refuse every request, in one sentence; None when it does not, or cannot be tried."""
    if why_not_tried(source) is not None:
        return None
    try:
        source.prove(sample_request(source, _NOW), _NOW, source.signing_key)
    except (Rejected, StorageUnavailable) as error:
        return (
            f"it does not verify what it signs itself, so it would refuse every request: {error.reason}; see that signature, split, "
            "prefix, encoding, timestamp and signed fit each other"
        )
    return None


__all__ = ["sample_request", "why_never_verifies", "why_not_tried"]
