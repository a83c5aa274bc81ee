"""The language in which a sender is described: one `Scheme` is one row of the tables in `rows`.

Where a value is, `places` says: `@x-github-event` is a header, `data.object.id` a path into the body. Templates put such
places in braces: the signed text `v0:{timestamp}:{body}`, the event type `{type}.{action}`. What may stand in the signed
text, `SIGNABLE` says; anything else there is a header, or a field of the body, with `?` behind it when it may be missing.

Verifying: the header is cut at `split`, and a part is right when it is `prefix` + the encoded MAC, byte for byte.

`checks` says everything that is wrong with a row; the same check serves our rows (a test) and those that users write
in `webhooks.toml` (`options`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

from webhooks.sources.declared.claims import JwtRule
from webhooks.sources.declared.greetings import Greeting
from webhooks.sources.declared.places import places
from webhooks.sources.keys.public import RSA

MACS = {"hmac-sha256": "sha256", "hmac-sha1": "sha1", "hmac-sha512": "sha512"}
#: A digest of a text that holds the secret.
DIGESTS = {"sha256": "sha256", "sha1": "sha1", "sha512": "sha512", "md5": "md5"}
PUBLIC_KEY_ALGORITHMS = ("ed25519", "ecdsa-sha256", *RSA)
#: A token that a key signed, with claims in it.
JWT = "jwt"
#: What a request carries as it is.
TOKENS = ("token", "basic")
ALGORITHMS = (*MACS, *PUBLIC_KEY_ALGORITHMS, JWT, *DIGESTS, *TOKENS)
SECRET_ENCODINGS = ("text", "hex", "base64", "sha1", "sha256")
TIMESTAMP_FORMATS = ("seconds", "milliseconds", "iso")
BODY_FORMATS = ("json", "form", "json-or-form", "multipart", "form-or-multipart", "raw")
#: How a field of the body is written that holds a text of its own.
FIELD_ENCODINGS = ("json", "base64", "base64-json")
CHARSETS = (
    "utf-8",
    "declared",
    "iso-8859-1",
    "iso-8859-15",
    "windows-1252",
    "utf-16",
    "shift_jis",
    "gb18030",
    "euc-kr",
)
#: How senders write an address that they sign: with or without its port; with its query decoded in part.
URL_FORMS = ("port", "decoded")
DEDUP_KEYS = ("id", "body", "both", "none")
#: {what may stand in a signed text besides headers and fields of the body: what it is}
SIGNABLE: Mapping[str, str] = {
    "timestamp": "the signed time, as it is written",
    "id": "the header that `id` names",
    "body": "the body's bytes",
    "url": "the configured address, with the query as it was sent",
    "path": "of the configured address",
    "query": "as it was sent",
    "method": "POST, say",
    "form": "every field of the form, sorted, name and value joined",
    "crc32": "of the body, a decimal number",
    "sha256": "of the body, in hex",
    "secret": "the key, for plain digests",
    "sns": "the lines that Amazon SNS signs, which depend on the message's type",
}
#: Names in a signed text that are not fields of the body.
RESERVED = frozenset(SIGNABLE)
#: Each of them fixes every byte of the body.
_WHOLE_BODY = frozenset(("body", "form", "sha256"))


@dataclass(frozen=True)
class Scheme:
    """How one kind of sender signs and what its events look like; see the module for the notation.

    Verifying. algorithm: of `ALGORITHMS`. signature: places that carry one; any that matches will do. require:
    headers that must have exactly this value. secret_encoding: how the key is written, and secret_prefix what may
    stand before it. public_key_prefix: when not empty, secrets that begin with `whpk_` are Ed25519 keys whose parts
    begin with it.

    Reading. charset: how text is written; `declared` asks the content type. decode: fields that hold a text of their own,
    which is read in their place. items: paths of the lists whose elements are events ("." for the body itself, `a.*.b` for
    the list in each element), around: whether each keeps what stands around it, unwrap: the key inside
    each element. id, type, occurred_at, object_id: templates, the first whose places all exist counts; no id means
    the digest of the body. dotted: characters that become dots in a type. data, previous: paths for handlers.
    """

    name: str
    title: str = ""
    documentation: str = ""
    retries: str = (
        ""  #: for how long the sender tries, whether it signs anew, what stops it; with the page that says so
    )
    algorithm: str = "hmac-sha256"
    signature: tuple[str, ...] = ()
    split: str = ""
    prefix: str = ""
    encoding: str = "hex"
    signed: str = "{body}"
    url_forms: tuple[str, ...] = ()  #: further forms of the address that may be signed, of `URL_FORMS`
    secret_encoding: str = "text"
    secret_prefix: str = ""
    min_secret_bytes: int = 16
    public_key_prefix: str = ""
    timestamp: str = ""
    timestamp_format: str = "seconds"
    tolerance: timedelta = timedelta(seconds=300)
    tolerance_ahead: timedelta = timedelta(seconds=300)
    require: Mapping[str, str] = field(default_factory=dict)
    expect: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  #: {path: what a field of the body must be}
    jwt: JwtRule = field(default_factory=JwtRule)
    certificate: str = ""  #: where a request names its certificate; of our rows only
    certificate_pattern: str = ""  #: what the whole address must match
    #: (where the body names the algorithm, {what it says: algorithm}); ("", {}) for the row's one
    algorithm_at: tuple[str, Mapping[str, str]] = ("", MappingProxyType({}))
    #: {option: what it is}: texts that a source must give, in `signed` or `expect` as `{option}`
    needs: Mapping[str, str] = field(default_factory=dict)
    body: str = "json"
    charset: str = "utf-8"
    decode: Mapping[str, str] = field(default_factory=dict)
    items: tuple[str, ...] = ()
    around: bool = False
    unwrap: str = ""
    dedup: str = ""  #: of `DEDUP_KEYS`; "" follows from what is signed
    leave_out: tuple[str, ...] = ()  #: paths of fields that say nothing of the event, such as the number of the attempt
    id: tuple[str, ...] = ()
    type: tuple[str, ...] = ("{type}",)
    dotted: str = ""
    occurred_at: tuple[str, ...] = ()
    object_id: tuple[str, ...] = ()
    data: str = ""
    previous: str = ""
    handshake: str = ""  #: of `handshakes`, for what a table cannot say
    greetings: tuple[Greeting, ...] = ()
    pings: tuple[str, ...] = ()  #: shapes of whole bodies that are unsigned and no events
    success: tuple[str, str] | None = None  #: content type and body of a 2xx, where the sender's protocol fixes it
    as_form: Mapping[str, str | tuple[str, ...]] = field(
        default_factory=dict
    )  #: what is otherwise in a body that is a form

    @property
    def is_in_body(self) -> bool:
        """Whether the signature is a field of the body, which is then decoded before it is verified."""
        return any(not place.startswith(("@", "query:")) for place in self.signature)

    @property
    def signs_whole_body(self) -> bool:
        """`{form}` covers a body because verifying refuses one that is not the form that it signs."""
        if self.algorithm == JWT:
            return bool(self.jwt.body_hash)
        return self.algorithm not in TOKENS and not _WHOLE_BODY.isdisjoint(places(self.signed))

    @property
    def needs_url(self) -> bool:
        """Whether the address is signed, so that it has to be configured."""
        return "{url}" in self.signed or "{path}" in self.signed

    @property
    def signature_headers(self) -> tuple[str, ...]:
        """The headers, lower case, that carry a signature."""
        return tuple(place[1:] for place in self.signature if place.startswith("@"))

    @property
    def signs_id(self) -> bool:
        """Whether everything that may become the id is covered by the signature."""
        return all(
            not place.startswith(("@", "query:"))
            or ("{id}" in self.signed and place.startswith("@"))
            or f"{{{place}}}" in self.signed
            for text in self.id
            for place in places(text)
        ) and (self.signs_whole_body or not self.id)
