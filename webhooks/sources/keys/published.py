"""Why a text can be no secret: it stands in a vendor's documents or libraries, or it is a placeholder.

Published secrets are kept as digests: the values are public, but programs that look for leaked secrets would stumble over
them here. A test makes each digest again from the vectors' files, or from its source.

A placeholder is what people write to replace it later: words such as "your-webhook-secret", one piece again and again, a
sequence such as 0123456789abcdef. Random texts are never taken for one: what is left of them without words is too much.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import itertools
import re

PUBLISHED = frozenset(
    (
        "2f8894d90ffb75600928464c7839208284c8687671dc831cc2667a7ae04aa455",  # GitHub, validating webhook deliveries
        "6adbfd178516c8efe5896d4d0d66d2704d167cbb4ca881efde33af658d39826f",  # Slack, verifying requests
        "0c47dd30c7da14ce8078bc464742122187d516456e901ac0c3006dabcec0f743",  # Standard Webhooks, Svix
        "2590388f27dccae86911009528d7f302a6909c6ef2ce2a8630274270c49f9979",  # Zendesk, its test requests
        "89d6cd8fa9f2c43feadd2182b85c48421251465bdcf23afce49236a3b739b329",  # Paddle, documents
        "b6ef6f6333969b13541c04adb19350558b865b41d33785f484abed5076be70d5",  # Paddle, library
        "76c9e81529b8e49134bc1c3b99732fe915409cad3271efad7014197d803093e0",  # Box, libraries
        "4659007c609a31e95c56c2aadbbe75ab00983853dfe8244ccff2d6e26fb89bea",  # Box, libraries
        "61aacd2f3a41bba8b5e440e9a2366d58ede1565437be36e4a2022a9c62cccd4e",  # Box, documents of the Java library
        "dd658cfcc70eb468dd8033266287e564c6635b69a9671ef8641af197538712dc",  # Box, documents of the Java library
        "e4d12f849ede90f821c4fc8d80be84cec42d8fee252d1b3a5ab2559eb8894f66",  # Adyen, libraries
        "c06772d61cdb5168a017e35a666e1e4e855d305dcdb210694133538932f8258b",  # Adyen, libraries
        "3701699dcc392d63dc58dfccb1d043b92f111ec4777ce9c70988f8e4d5d92156",  # LINE, libraries
        "099829beec92e55583dbc35d0ed4172ae447e6fb5d0086b9099fe0d2977ec2c4",  # Square, libraries
        "7418bfa6cc65d7a81654375ae616e2e41e57d88cf56f6390fb3438ee5155bf13",  # HubSpot, libraries and documents
        "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5",  # Twilio, documents
        "e30592c37ff33ddbcf5bca999e379f4a73dcab070892bddee33aae1d4a02e413",  # RFC 7617
        "923fd0c9c6cfecec0edb37d2fe516c28965b4b92de9fe4d59d65a21c7ca370ee",  # Close, webhook signatures
        "d772992fc6f855001ba15284c76b744b43f6db137e7cb1f91de80ef32ade87f7",  # Svix, libraries
        "2c6857b3adc9ee8d7dc39d92331f687520a99054e70f2598024f7970b1a3fbe1",  # Svix, documents
        "9c846fdf0fa8955c377d0301542ee20ecd4585c5f359aa0a4cf15d44424f573d",  # Mailgun, documents
        "a4526cb8cdbf802f8ebb66c6935cced75f5187632fc280f6ac02cb42e5aeff27",  # Mailgun, documents
        "986c0dc956dc822b5d8f698661b9eb1ef880786ff9043c16744d2a420e99e9bb",  # the example of RFC 9562's predecessors
        "465d9ad5d5528ebe287b5dce4fb51620833d09b290e49ddcc70ca6c4a0aea01b",  # jwt.io
        "8f400c257611ed5d30c0e6607ac61074307dfa24cf70a8e92c3e8147d67d2c70",  # the example of many a UUID library
    )
)

#: Prefixes that say whose secret it is, and nothing of it.
_PREFIXES = re.compile(r"^(?:whsec_|whsk_|whpk_|pdl_ntfset_|sk_(?:live|test)_|api_|lin_wh_|key-)", re.IGNORECASE)
#: What placeholders are made of.
_WORDS = (
    "access", "admin", "api", "application", "asdfghjkl", "bar", "battery", "bearer", "board", "cat", "bit", "bytes", "change", "changeit",
    "changeme", "channel", "characters", "client", "close", "correct", "default", "demo", "dev", "development", "dont", "dummy",
    "edit", "enter", "example", "fake", "fill", "fixme", "foo", "from", "generated", "github", "goes", "here", "hmac", "horse",
    "hunter", "iloveyou", "insert", "invalid", "is", "it", "keep", "key", "letmein", "live", "local", "localhost", "long", "mock", "must",
    "my", "name", "none", "not", "null", "opensesame", "paste", "password", "passw", "placeholder", "please", "private", "prod",
    "production", "public", "put", "qwerty", "qwertyuiop", "random", "real", "replace", "replaceme", "sample", "secret", "secrets",
    "secure", "sesame", "set", "shared", "shh", "sign", "signature", "signing", "slack", "some", "something", "staple", "staging",
    "string", "stripe", "strong", "super", "temp", "temporary", "test", "tester", "testing", "the", "this", "todo", "token", "top",
    "trustno", "undefined", "unsafe", "use", "value", "verification", "verify", "very", "webhook", "webhooks", "whsec", "with", "your",
    "yours", "zxcvbnm",
)  # fmt: skip
#: {last two letters: the words that end so, in their order}, for texts are looked at from each letter backwards.
_BY_END: dict[str, list[str]] = {}
for _word in _WORDS:
    _BY_END.setdefault(_word[-2:], []).append(_word)
_LEET = str.maketrans("013457@$!", "oieastasi")
#: Ascending or descending characters in a row from which on they are a sequence.
_SEQUENCE = 4
_ORDERS = ("0123456789abcdefghijklmnopqrstuvwxyz", "01234567890")
_SHORTEST_SEQUENCE = 12
#: A piece that is repeated; one that is longer may be random by itself.
_LONGEST_PIECE = 8


def why_weak(text: str, prefix: str = "") -> str | None:
    """Why this text, blank ones aside, can be no secret; None when nothing speaks against it.

    prefix: of the scheme, which is no part of the secret. The answer continues a sentence and never holds the text.
    """
    bare = text.strip().removeprefix(prefix)
    bare = _PREFIXES.sub("", bare) or bare
    for each in {text.strip(), text.strip().removeprefix(prefix), bare, bare.lower()}:
        if hashlib.sha256(each.encode("utf-8", "surrogatepass")).hexdigest() in PUBLISHED:
            return "is printed in a vendor's documents, so every reader has it; make a new one"
    if len(set(bare)) < 5:
        return "is made of fewer than 5 different characters; make a random one"
    if _repeats(bare):
        return "is one piece again and again; make a random one"
    if _is_sequence(bare):
        return "is a sequence of characters; make a random one"
    if _is_words(bare, with_sequences=True) or any(_is_words(each, with_sequences=False) for each in _decoded(bare)):
        return "is a placeholder, not a secret; copy the sender's, or make a random one"
    return None


def _repeats(text: str) -> bool:
    """Whether it is one short or weak piece at least twice, the last one cut or not."""
    text = text.lower()
    for size in range(1, len(text) // 2 + 1):
        piece = text[:size]
        if text == (piece * (len(text) // size + 1))[: len(text)]:
            return size <= _LONGEST_PIECE or _is_sequence(piece) or _is_words(piece, with_sequences=True)
    return False


def _is_sequence(text: str) -> bool:
    """Whether most of it follows the alphabet: abcdef…, 00112233…, and as hex 000102…"""
    if len(text) < _SHORTEST_SEQUENCE:
        return False
    low = text.lower()
    single = re.sub(r"(.)\1+", r"\1", low)
    if len(_without_sequences(low)) <= len(low) // 5 or (len(single) > 8 and not _without_sequences(single)):
        return True
    with contextlib.suppress(ValueError):
        raw = bytes.fromhex(text)
        steps = [later - earlier for earlier, later in itertools.pairwise(raw)]
        return len(raw) >= 8 and max(steps.count(1), steps.count(-1)) >= 0.8 * len(steps)
    return False


def _without_sequences(text: str) -> str:
    """What is left without characters that follow each other in the alphabet, up or down."""
    left, start = "", 0
    for at in range(1, len(text) + 1):
        if (
            at < len(text)
            and _step(text[at - 1], text[at])
            and (at - start < 2 or _step(text[start], text[start + 1]) == _step(text[at - 1], text[at]))
        ):
            continue
        if at - start < _SEQUENCE:
            left += text[start:at]
        start = at
    return left


def _step(one: str, other: str) -> int:
    """1 when `other` follows `one`, -1 when it precedes it, else 0."""
    for order in _ORDERS:
        if one + other in order:
            return 1
        if other + one in order:
            return -1
    return 0


def _is_words(text: str, *, with_sequences: bool) -> bool:
    """Whether hardly anything is left of it without words that placeholders are made of."""
    low = "".join(character for character in text.lower()[:200] if character.isalnum() or character in "@$!")
    for written in (low, low.translate(_LEET)):
        left = _without_words(written)
        if len(left.replace(" ", "")) == len(written):
            continue  # not a word in it
        if with_sequences:
            left = " ".join(_without_sequences(part) for part in left.split())
        digits = sum(character.isdigit() for character in left)
        letters = len(left.replace(" ", "")) - digits
        if digits <= 4 and letters <= max(2, len(written) // 6):
            return True
    return False


def _without_words(text: str) -> str:
    """`text` with a space for each word, cut so that as little as possible is left."""
    best: list[tuple[int, str]] = [(0, "")]
    for end in range(1, len(text) + 1):
        count, left = best[end - 1]
        found = (count + 1, left + text[end - 1])
        for word in _BY_END.get(text[max(0, end - 2) : end], ()):
            if text.endswith(word, 0, end) and best[end - len(word)][0] < found[0]:
                count, left = best[end - len(word)]
                found = (count, left + " ")
        best.append(found)
    return best[-1][1]


def _decoded(text: str) -> list[str]:
    """The readable text that it is the hex or base64 of, if it is."""
    found = []
    with contextlib.suppress(ValueError, binascii.Error):
        found.append(bytes.fromhex(text))
    with contextlib.suppress(ValueError, binascii.Error):
        found.append(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    return [
        raw.decode("ascii") for raw in found if len(raw) >= 6 and raw.isascii() and raw.decode("ascii").isprintable()
    ]
