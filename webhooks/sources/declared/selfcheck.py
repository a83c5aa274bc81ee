"""Whether a source could ever verify a request: it signs a sample as its row says, and verifies it.

A configuration that contradicts itself (a prefix that `split` cuts, a field that nothing fills) starts otherwise and refuses
every request. Where only the sender has the private key, or publishes its keys, the sample is signed by one that is made for it. Not
tried: secrets that come from elsewhere, tokens in an address or a body, and bodies other than JSON that carry their signature.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from webhooks.errors import ConfigurationError, Rejected, StorageUnavailable
from webhooks.formats import json as jsonio
from webhooks.model import Headers, InboundRequest
from webhooks.sources.declared.fields import json_path
from webhooks.sources.declared.scheme import JWT, PUBLIC_KEY_ALGORITHMS
from webhooks.sources.declared.trial_keys import trial_key

if TYPE_CHECKING:
    from webhooks.sources.declared.source import DeclaredSource
    from webhooks.sources.keys.keys import VerifyingKey

#: Any instant will do.
_NOW = datetime(2026, 3, 10, 14, 5, 12, tzinfo=UTC)


def why_not_tried(source: DeclaredSource) -> str | None:
    """Why a source cannot be tried this way, in one line; None when it can be."""
    row = source.row
    if not is_made_for_it(source) and not source.keys.current() and "signing_key" not in source.settings.options:
        return "its secrets come from secrets_from, or have not been brought yet"
    if not is_made_for_it(source) and not signs_itself(source):
        return "its keys are public ones, so that only the sender can sign"
    if row.certificate and row.is_in_body:
        return "its signature is over fields that only the sender fills"
    if row.algorithm == JWT and row.is_in_body:
        return "its token stands in the body"
    if any(place.startswith("query:") for place in row.signature):
        return "its token stands in the address"
    if row.is_in_body and row.body not in ("json", "json-or-form"):
        return "its signature stands in a form"
    return None


def is_made_for_it(source: DeclaredSource) -> bool:
    """Whether a trial needs a key of its own, since only the sender has the one that signs."""
    row = source.row
    if row.algorithm == JWT:
        return not row.jwt.is_shared
    return row.algorithm in PUBLIC_KEY_ALGORITHMS and "signing_key" not in source.settings.options


def key_for_trial(source: DeclaredSource) -> VerifyingKey:
    """The key that signs the sample: one of the source's, or one that is made for it."""
    if is_made_for_it(source) and not signs_itself(source):
        return trial_key(source.row)
    return source.signing_key


def signs_itself(source: DeclaredSource) -> bool:
    """Whether a source has what signs as its sender does: a shared secret, or a private key of ours."""
    if source.row.algorithm == JWT and not source.row.jwt.is_shared and "signing_key" not in source.settings.options:
        return False
    try:
        source.signing_key.sign(b"{}")
    except ConfigurationError:
        return False
    return True


def sample_request(source: DeclaredSource, now: datetime, key: VerifyingKey) -> InboundRequest:
    """A request that `key` signs as the source's row says."""
    body, headers = source.signed_with(sample_body(source), now, key)
    query = source.settings.public_url.partition("?")[2].encode("utf-8")
    method = "POST" if "POST" in source.methods else sorted(source.methods)[0]
    return InboundRequest(Headers(headers), body, method, query, source.settings.public_url)


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
        key = key_for_trial(source)
        source.prove(sample_request(source, _NOW, key), _NOW, key)
    except (Rejected, StorageUnavailable) as error:
        return (
            f"it does not verify what it signs itself, so it would refuse every request: {error.reason}; see that signature, split, "
            "prefix, encoding, timestamp and signed fit each other"
        )
    return None


__all__ = [
    "is_made_for_it",
    "key_for_trial",
    "sample_body",
    "sample_request",
    "signs_itself",
    "why_never_verifies",
    "why_not_tried",
]
