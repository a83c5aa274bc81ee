"""Break the verifying code on purpose, one mistake at a time, and see that a test notices.

    python tests/mutation/mutants.py [WORD]     (make mutants)

Each mutant is one change of one line, such as a wider tolerance or a header that is no longer asked for. It is
applied to a copy, and the tests of signatures and sources run there until the first failure. A mutant that survives
is a hole in the tests; one that no longer applies must be written anew. WORD runs only the mutants whose description
holds it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = [
    "tests/unit/sources/test_tokens.py",
    "tests/unit/sources/test_certificates.py",
    "tests/unit/sources/test_fetched.py",
    "tests/unit/sources/test_greetings.py",
    "tests/unit/sources/test_signed.py",
    "tests/unit/sources/test_vectors.py",
    "tests/unit/test_signing.py",
    "tests/unit/sources/test_close.py",
    "tests/unit/sources/test_handshakes.py",
    "tests/unit/sources/test_custom.py",
    "tests/unit/sources/test_contract.py",
    "tests/unit/sources/test_oracles.py",
    "tests/unit/sources/test_selfcheck.py",
    "tests/unit/sources/test_bodies.py",
]
SECONDS_EACH = 600
AT_ONCE = os.cpu_count() or 2


@dataclass(frozen=True)
class Mutant:
    """One mistake. before stands exactly once in the file; after takes its place."""

    mistake: str
    file: str
    before: str
    after: str

    def applies(self) -> bool:
        """Whether the code is still what it was when this was written."""
        return (ROOT / self.file).read_text("utf-8").count(self.before) == 1


SIGNING = "webhooks/sources/signing.py"
CLOSE = "webhooks/sources/close/signature.py"
ENVELOPE = "webhooks/sources/close/envelope.py"
DECLARED = "webhooks/sources/declared/source.py"
PROOF = "webhooks/sources/declared/proof.py"
SIGNED = "webhooks/sources/declared/signed.py"
PARSE = "webhooks/sources/declared/parse.py"
DECODE = "webhooks/sources/declared/decode.py"
CLAIMS = "webhooks/sources/declared/claims.py"
CERTIFICATES = "webhooks/sources/declared/certificates.py"
GREETINGS = "webhooks/sources/declared/greetings.py"
PUBLIC = "webhooks/sources/keys/public.py"
JWT_KEYS = "webhooks/sources/keys/jwt_keys.py"
FETCHED = "webhooks/sources/keys/fetched.py"
KEYS = "webhooks/sources/keys/keys.py"
HANDSHAKES = "webhooks/sources/declared/handshakes.py"
SCHEMES = "webhooks/sources/declared/rows/first.py"
DEVELOPMENT = "webhooks/sources/declared/rows/development.py"
WORK = "webhooks/sources/declared/rows/work.py"
COMMERCE = "webhooks/sources/declared/rows/commerce.py"
PLATFORMS = "webhooks/sources/declared/rows/platforms.py"
SELFCHECK = "webhooks/sources/declared/selfcheck.py"
BODIES = "webhooks/sources/declared/bodies.py"
PLACES = "webhooks/sources/declared/places.py"
KEYRING = "webhooks/sources/keys/keyring.py"
FIELDS = "webhooks/sources/declared/fields.py"
JSON = "webhooks/formats/json.py"
TEXT = "webhooks/formats/text.py"

_JUDGE = (
    "        if sent_at is not None:\n"
    "            require_fresh(sent_at, now, self.row.tolerance, self.row.tolerance_ahead)\n"
)

MUTANTS = [
    Mutant("the past tolerance excludes its edge", SIGNING, "if age > past.", "if age >= past."),
    Mutant("the future tolerance excludes its edge", SIGNING, "if -age > ahead.", "if -age >= ahead."),
    Mutant("the past is unlimited", SIGNING, "if age > past.total_seconds():", "if False:"),
    Mutant("the future is unlimited", SIGNING, "if -age > ahead.total_seconds():", "if False:"),
    Mutant(
        "the past tolerance is wider by a second",
        SIGNING,
        "age > past.total_seconds()",
        "age > past.total_seconds() + 1",
    ),
    Mutant(
        "the future is measured with the past's tolerance",
        SIGNING,
        "-age > ahead.total_seconds()",
        "-age > past.total_seconds()",
    ),
    Mutant(
        "comparison is not constant in time", SIGNING, "return hmac.compare_digest(one, other)", "return one == other"
    ),
    Mutant(
        "only the beginning is compared", SIGNING, "compare_digest(one, other)", "compare_digest(one[:16], other[:16])"
    ),
    Mutant("a timestamp may have any length", SIGNING, "or len(value) != digits or", "or"),
    Mutant("a timestamp may be what int() takes", SIGNING, "or not value.isdigit()", ""),
    Mutant("an ISO time needs no end", SIGNING, "_ISO_INSTANT.fullmatch(value)", "_ISO_INSTANT.match(value)"),
    Mutant("milliseconds are seconds", SIGNING, "read_timestamp(value, 13) / 1000", "read_timestamp(value, 13)"),
    Mutant(
        "a signature may be spelt in several ways",
        SIGNING,
        "return raw if ENCODERS[encoding](raw) == text else None",
        "return raw",
    ),
    Mutant(
        "hex keys are used as text",
        SIGNING,
        "        return bytes.fromhex(text)\n    try",
        "        return text.encode()\n    try",
    ),
    Mutant("base64 keys skip what is not base64", SIGNING, "len(text) % 4), validate=True)", "len(text) % 4))"),
    Mutant("Close: the key is used as text", CLOSE, "key = decode_hex_key(text, KEY_BYTES)", "key = text.encode()"),
    Mutant("Close: the timestamp is left out of the MAC", CLOSE, "message = timestamp + body", "message = body"),
    Mutant(
        "Close: a dot joins timestamp and body",
        CLOSE,
        "message = timestamp + body",
        'message = timestamp + b"." + body',
    ),
    Mutant("Close: the digest is SHA-1", CLOSE, 'message, "sha256").hex().encode', 'message, "sha1").hex().encode'),
    Mutant(
        "Close: an upper-case digest is taken",
        CLOSE,
        "compare_digest(expected, given)",
        "compare_digest(expected, given.lower())",
    ),
    Mutant(
        "Close: half of the digest is compared",
        CLOSE,
        "compare_digest(expected, given)",
        "compare_digest(expected[:32], given[:32])",
    ),
    Mutant("Close: the time is not judged", CLOSE, "            require_fresh(sent_at, now, past, ahead)\n", ""),
    Mutant("Close: the limit is 31 days", CLOSE, "timedelta(days=30)", "timedelta(days=31)"),
    Mutant("Close: the future limit is an hour", CLOSE, "timedelta(seconds=300)", "timedelta(seconds=3600)"),
    Mutant(
        "Close: a missing hash passes",
        CLOSE,
        'raise SignatureError(f"the header {HASH_HEADER} is missing, empty or doubled")',
        "return keys[0].label",
    ),
    Mutant("Close: only the first key is tried", CLOSE, "for key in keys:", "for key in keys[:1]:"),
    Mutant("Close: a made-up key starts", CLOSE, "if len(set(key)) < 8:", "if False:"),
    Mutant("Close: a doubled key is no ambiguity", ENVELOPE, "flat.count(name) > 1", "flat.count(name) > 2"),
    Mutant("Close: an escaped key is overlooked", ENVELOPE, 'if b"\\\\" in flat:', "if False:"),
    Mutant("Close: bytes that are not UTF-8 are JSON", JSON, "if not raw.isascii():", "if False:"),
    Mutant("any depth is taken", JSON, "> MAX_DEPTH and _is_deeper_than", "> 10**9 and _is_deeper_than"),
    Mutant("any integer is taken", JSON, "len(raw) > MAX_INTEGER_DIGITS and", "False and"),
    Mutant(
        "a required header is not asked for",
        PROOF,
        "for header, wanted in self.row.require.items():",
        "for header, wanted in ():",
    ),
    Mutant(
        "a required header may have any value",
        PROOF,
        "given is None or not is_equal(given, wanted.encode())",
        "given is None",
    ),
    Mutant(
        "a doubled signature header is taken",
        PROOF,
        "value = request.headers.one(header)\n        if value is None:",
        "value = request.headers.all(header)[0]\n        if not value:",
    ),
    Mutant(
        "more than twenty signatures are looked at",
        PROOF,
        "return entries[:MAX_ENTRIES]",
        "return [e for v in entries for e in v.split(self.row.split.encode() or b'\\0')]",
    ),
    Mutant(
        "the time of a header is not judged",
        PROOF,
        _JUDGE + "        return label\n\n    def _require_expected",
        "        return label\n\n    def _require_expected",
    ),
    Mutant(
        "the time inside a part is not judged",
        PROOF,
        _JUDGE + "        return label\n\n    def _entries_of",
        "        return label\n\n    def _entries_of",
    ),
    Mutant("the time in the body is not looked for", PROOF, "if sent_at is None and self.row.timestamp:", "if False:"),
    Mutant("two times in one header pass", PROOF, "if len(stamps) != 1:", "if not stamps:"),
    Mutant(
        "the timestamp is left out of the signed text",
        SIGNED,
        'if name == "timestamp":\n            return stamp',
        'if name == "timestamp":\n            return b""',
    ),
    Mutant(
        "the body is left out of the signed text",
        SIGNED,
        'if name == "body":\n            return request.body',
        'if name == "body":\n            return b""',
    ),
    Mutant(
        "the method is left out of the signed text",
        SIGNED,
        "return request.method.encode()",
        'return b"POST"',
    ),
    Mutant("an id with a dot is signed", SIGNED, "or _SIGNED_ID.fullmatch(given) is None", ""),
    Mutant(
        "the query is not part of the address",
        SIGNED,
        'return url + b"?" + request.query if request.query else url',
        "return url",
    ),
    Mutant(
        "the hash of the body in the address is believed",
        SIGNED,
        "if not is_equal(match.group(1), hashlib.sha256(request.body).hexdigest().encode()):",
        "if False:",
    ),
    Mutant(
        "one right item vouches for the others",
        PROOF,
        "for part in parts]\n        except Malformed",
        "for part in parts[:1]]\n        except Malformed",
    ),
    Mutant(
        "a failed signature does not look at the file",
        DECLARED,
        "if not self.keys.refresh():\n                raise",
        "raise",
    ),
    Mutant("any secret matches", PROOF, "if key.value.matches(message, entries):", "if True:"),
    Mutant("only the first secret is tried", PROOF, "for key in ring:", "for key in ring[:1]:"),
    Mutant("a short secret starts", DECODE, "len(raw) < row.min_secret_bytes", "False"),
    Mutant(
        "a published secret starts",
        DECODE,
        "if (reason := why_weak",
        "if False and (reason := why_weak",
    ),
    Mutant("an unsigned body needs no consent", DECLARED, "and not self.settings.accept_unsigned_body:", "and False:"),
    Mutant(
        "an unsigned id is the key",
        DECLARED,
        'return "id" if self.row.signs_id else "both"',
        'return "id"',
    ),
    Mutant("the digest does not join the id of an unsigned body", DECLARED, 'return "both"', 'return "id"'),
    Mutant("the order of a form makes another key", PARSE, "raw = sorted_form(raw)", "pass"),
    Mutant(
        "the prefix is not part of the comparison",
        KEYS,
        """expected = self.sign(message)\n        return any(is_equal(expected, entry) for entry in entries)\n\n\nclass DigestKey""",
        """expected = self.sign(message)[len(self._prefix):]\n        return any(is_equal(expected, entry[-len(expected):]) for entry in entries)\n\n\nclass DigestKey""",
    ),
    Mutant(
        "a public key accepts what it cannot verify",
        PUBLIC,
        "except InvalidSignature:\n                continue",
        "except InvalidSignature:\n                pass",
    ),
    Mutant(
        "a public key ignores the version",
        PUBLIC,
        "for entry in entries if entry.startswith(self._prefix)",
        "for entry in entries",
    ),
    Mutant(
        "a token's beginning is enough",
        KEYS,
        "hashlib.sha256(entry).digest()",
        "hashlib.sha256(self._value[:len(entry)] and entry + self._value[len(entry):]).digest()",
    ),
    Mutant(
        "Meta: any token is ours", HANDSHAKES, "if not any(is_equal(token, given) for token in tokens):", "if False:"
    ),
    Mutant(
        "Meta: an unset token accepts",
        HANDSHAKES,
        '    if not tokens:\n        raise ChallengeFailed("no verify_token is set for this source")\n    if not any',
        "    if tokens and not any",
    ),
    Mutant("Meta: a doubled parameter passes", HANDSHAKES, "if len(values) != len(pairs):", "if False:"),
    Mutant("any text is echoed", HANDSHAKES, "or _ECHO.fullmatch(value) is None", ""),
    Mutant("the beginning of a text decides on its echo", HANDSHAKES, "_ECHO.fullmatch(value)", "_ECHO.match(value)"),
    Mutant(
        "Standard Webhooks: the id is not signed",
        SCHEMES,
        'signed="{id}.{timestamp}.{body}"',
        'signed="{timestamp}.{body}"',
    ),
    Mutant("Stripe: v0 is taken", SCHEMES, 'prefix="v1=",', 'prefix="v0=",'),
    Mutant("Box: the version is not required", SCHEMES, '"box-signature-version": "1", ', ""),
    Mutant("Twilio: the address is not signed", SCHEMES, 'signed="{url}{form}"', 'signed="{form}"'),
    Mutant(
        "Linear: the time is not judged",
        SCHEMES,
        '        timestamp="webhookTimestamp",\n        timestamp_format="milliseconds",\n',
        "",
    ),
    Mutant("the file is looked at for every request", KEYRING, "LOOK_EVERY_SECONDS = 1.0", "LOOK_EVERY_SECONDS = 0.0"),
    Mutant(
        "a broken file drops the keys",
        KEYRING,
        '                return False\n            self.problem = ""',
        '                keys = []\n            self.problem = ""',
    ),
    Mutant("forty-one secrets start", KEYRING, "if len(secrets) > MAX_SECRETS:", "if len(secrets) > MAX_SECRETS + 1:"),
    Mutant("a blank secret starts", KEYRING, "if not secret.reveal().strip():", "if False:"),
    Mutant("an id may be longer than its column", TEXT, "if size > MAX_KEY_BYTES:", "if size > MAX_KEY_BYTES + 1:"),
    Mutant("a NUL may be in a key", TEXT, 'if "\\0" in text else None', "if False else None"),
    Mutant("a doubled id is no ambiguity", FIELDS, "key in holder.doubled:", "False:"),
    Mutant(
        "a form may hold what no form holds", FIELDS, "if not name or not equals or not part.isascii():", "if False:"
    ),
    Mutant(
        "any query joins the fields",
        SIGNED,
        "if request.query == configured:",
        "if not BODY_HASH.search(request.query):",
    ),
    Mutant(
        "a signed header may be missing",
        SIGNED,
        "if given is None and (not is_optional or",
        "if False and (not is_optional or",
    ),
    Mutant(
        "the secret is left out of a digest",
        KEYS,
        "text += message[end:place] + self._key",
        "text += message[end:place]",
    ),
    Mutant(
        "what is expected in a body may be anything", PROOF, "if text_of(at(part, path)) not in texts:", "if False:"
    ),
    Mutant("a token may have any algorithm", CLAIMS, 'if header.get("alg") not in self._rule.algorithms:', "if False:"),
    Mutant("any issuer", CLAIMS, "if rule.issuer and", "if False and"),
    Mutant("any audience", CLAIMS, "if rule.audience and", "if False and"),
    Mutant(
        "claims are not compared",
        CLAIMS,
        "if not any(same_json(found, each)",
        "if False and not any(same_json(found, each)",
    ),
    Mutant("a token that ended passes", CLAIMS, "if until is not None and seconds > until + leeway:", "if False:"),
    Mutant("a token of the future passes", CLAIMS, "if max(since or 0, made or 0) > seconds + leeway:", "if False:"),
    Mutant("a token without an end passes", CLAIMS, '(rule.time == "exp" and until is None) or', ""),
    Mutant(
        "an old token without an end passes",
        CLAIMS,
        'if rule.time == "iat" and made is not None and',
        "if False and made is not None and",
    ),
    Mutant(
        "the body's hash is not compared",
        CLAIMS,
        "        if rule.body_hash:\n            self._judge_body",
        "        if False:\n            self._judge_body",
    ),
    Mutant("a doubled claim passes", CLAIMS, "if isinstance(found, jsonio.Watched) and found.doubled:", "if False:"),
    Mutant("shared and public keys mix", CLAIMS, "elif not rule.is_shared and any(", "elif False and any("),
    Mutant("any key of the set for any kid", JWT_KEYS, "if kid is None or name == kid]", "]"),
    Mutant("a key of a set may be for encrypting", JWT_KEYS, 'value.get("use", "sig") != "sig" or', ""),
    Mutant("an unknown kid asks each time", JWT_KEYS, "and now - self._tried >= REFRESH_SECONDS", ""),
    Mutant("a short RSA key in a set", JWT_KEYS, 'if kind == "RSA" and key.key_size < LEAST_RSA_BITS:', "if False:"),
    Mutant("a short RSA key starts", PUBLIC, "if public.key_size < LEAST_RSA_BITS:", "if False:"),
    Mutant("PSS is PKCS 1", PUBLIC, 'if kind == "pss":', "if False:"),
    Mutant("a certificate counts for ever", PUBLIC, "not self.valid[0] <= now <= self.valid[1]", "False"),
    Mutant(
        "a kept certificate counts for ever",
        CERTIFICATES,
        "        key.require_valid(now)\n        return",
        "        return",
    ),
    Mutant("a certificate from anywhere", CERTIFICATES, "or self._pattern.fullmatch(address) is None", ""),
    Mutant(
        "the beginning of an address decides",
        CERTIFICATES,
        "self._pattern.fullmatch(address)",
        "self._pattern.match(address)",
    ),
    Mutant("keys over http", FETCHED, 'if parts.scheme != "https" and not', "if False and not"),
    Mutant("a redirect is an answer", FETCHED, "if answer.status != 200:", "if answer.status >= 400:"),
    Mutant("an answer of any length", FETCHED, "if len(content) > MOST_BYTES:", "if False:"),
    Mutant("an answer that drips for ever", FETCHED, "if left <= 0:", "if False:"),
    Mutant("any number of fetches", FETCHED, "if len(self._made) == MOST_A_MINUTE and", "if False and"),
    Mutant(
        "what failed is asked at once again",
        FETCHED,
        "if failed is not None and now - failed < FAILED_FOR_SECONDS:",
        "if False:",
    ),
    Mutant(
        "a handshake echoes anything",
        GREETINGS,
        "and ECHOED[greeting.characters].fullmatch(challenge) is None:",
        "and False:",
    ),
    Mutant(
        "a ping's beginning is enough",
        GREETINGS,
        "any(pattern.fullmatch(text) for pattern in self._pings)",
        "any(pattern.match(text) for pattern in self._pings)",
    ),
    Mutant(
        "any token in a handshake",
        GREETINGS,
        "if not any(is_equal(token, given) for token in self._tokens):",
        "if False:",
    ),
    Mutant(
        "a MAC of what a stranger asks",
        GREETINGS,
        "if greeting.asks_for_mac and not greeting.is_verified and (",
        "if False and (",
    ),
    Mutant(
        "an empty list needs no token",
        PROOF,
        "if not isinstance(parts, list) or not parts:",
        "if not isinstance(parts, list):",
    ),
    Mutant(
        "a large body is decoded unverified",
        PROOF,
        "if len(request.body) > MAX_UNVERIFIED_BYTES and not",
        "if False and not",
    ),
    Mutant(
        "what is expected in an item may be anything",
        PROOF,
        "            if text_of(at(part, path)) not in texts:",
        "            if False:",
    ),
    Mutant("the time has no position", PROOF, "stamp = entries[self._position]", "stamp = entries[0]"),
    Mutant(
        "a missing position is no mistake",
        PROOF,
        "if len(entries) <= self._position:",
        "if len(entries) < self._position:",
    ),
    Mutant(
        "a form is read as JSON is",
        PROOF,
        "if self._form is not None and not looks_like_json(request.body):",
        "if False:",
    ),
    Mutant(
        "the other forms of an address are not tried",
        PROOF,
        "for other in self.text.others(request, stamp):",
        "for other in ():",
    ),
    Mutant("a token's prefix is left away", DECODE, "return keys.TokenKey(prefix + raw)", "return keys.TokenKey(raw)"),
    Mutant("a parameter may stand twice", PLACES, "if len(found) == 1 else None", "if found else None"),
    Mutant(
        "a signed POST handshake is not verified",
        GREETINGS,
        "and not self.secret if self.signed is None else self.signed",
        "and False",
    ),
    Mutant(
        "a handshake needs nothing that it names",
        GREETINGS,
        'return found is not None and wanted in ("*", found)',
        "return True",
    ),
    Mutant("a short secret is brought", GREETINGS, "and len(value) >= 16 else None", "else None"),
    Mutant(
        "a certificate of another algorithm",
        CERTIFICATES,
        "if given is None or given not in known:",
        "if given is None:",
    ),
    Mutant(
        "a pinned certificate counts for ever",
        CERTIFICATES,
        "for key in ring if key.value.valid is None or",
        "for key in ring if True or",
    ),
    Mutant(
        "a configuration that never verifies starts",
        SELFCHECK,
        "    except (Rejected, StorageUnavailable) as error:\n        return (",
        "    except (Rejected, StorageUnavailable) as error:\n        return None and (",
    ),
    Mutant("a multipart form need not end", BODIES, 'or not parts[-1].startswith(b"--")', ""),
    Mutant(
        "a body may have any charset", BODIES, "        if name not in _KNOWN:\n            raise LookupError\n", ""
    ),
    Mutant(
        "a GET may be made of a signed form",
        SIGNED,
        '            if configured:\n                raise SignatureError("public_url holds',
        '            if False:\n                raise SignatureError("public_url holds',
    ),
    Mutant(
        "equal bodies run without a bound",
        DECLARED,
        'self.equal_bodies = options.get("equal_bodies", EQUAL_BODIES) if is_open else 0',
        "self.equal_bodies = 0",
    ),
    Mutant(
        "GitLab: the token stands elsewhere",
        DEVELOPMENT,
        'signature=("@x-gitlab-token",)',
        'signature=("@x-gitlab-event",)',
    ),
    Mutant(
        "PagerDuty: one signature is looked at",
        DEVELOPMENT,
        'signature=("@x-pagerduty-signature",),\n        split=",",',
        'signature=("@x-pagerduty-signature",),\n        split=";",',
    ),
    Mutant("Trello: the address is not signed", WORK, 'signed="{body}{url}"', 'signed="{body}"'),
    Mutant("Calendly: the time is not signed", WORK, 'signed="{timestamp}.{body}",\n        timestamp="part:t=",', ""),
    Mutant("DocuSign: one key is looked at", WORK, "range(1, 6)", "range(1, 2)"),
    Mutant("Authorize.Net: lower case", COMMERCE, 'encoding="hex-upper"', 'encoding="hex"'),
    Mutant("WooCommerce: pings of any length", COMMERCE, "webhook_id=[0-9]{1,12}", "webhook_id=[0-9]{1,13}"),
    Mutant("Microsoft Graph: one item vouches", PLATFORMS, 'items=("value",)', 'items=("value.0",)'),
    Mutant("Twitch: the id is not signed", PLATFORMS, 'signed="{id}{timestamp}{body}"', 'signed="{timestamp}{body}"'),
    Mutant(
        "Okta: a word may stand before the token",
        PLATFORMS,
        'signature=("@authorization",),',
        'signature=("@authorization",),\n        prefix="Bearer ",',
    ),
]


def main(word: str = "") -> int:
    chosen = [mutant for mutant in MUTANTS if word in mutant.mistake]
    stale = [mutant for mutant in chosen if not mutant.applies()]
    for mutant in stale:
        print(f"does not apply any more: {mutant.mistake} ({mutant.file}: {mutant.before!r})")
    with tempfile.TemporaryDirectory() as directory:
        copies = [_copy(Path(directory) / str(number)) for number in range(AT_ONCE)]
        if not _passes(copies[0]):
            print("the tests fail without a mutant; mend them first")
            return 1
        with ThreadPoolExecutor(AT_ONCE) as pool:
            free = list(copies)

            def survives(mutant: Mutant) -> bool:
                copy = free.pop()
                try:
                    return _survives(mutant, copy)
                finally:
                    free.append(copy)

            fates = list(pool.map(survives, (mutant for mutant in chosen if mutant not in stale)))
    survivors = [
        mutant for mutant, fate in zip((each for each in chosen if each not in stale), fates, strict=True) if fate
    ]
    for mutant in survivors:
        print(f"SURVIVED: {mutant.mistake} ({mutant.file})")
    print(f"{len(fates) - len(survivors)} of {len(chosen)} mutants were killed")
    return 1 if survivors or stale or not fates else 0


def _copy(target: Path) -> Path:
    """What the tests need, elsewhere."""
    for name in ("webhooks", "tests", "migrations"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, target / name)
    return target


def _survives(mutant: Mutant, copy: Path) -> bool:
    path = copy / mutant.file
    whole = path.read_text("utf-8")
    path.write_text(whole.replace(mutant.before, mutant.after), "utf-8")
    try:
        return _passes(copy)
    finally:
        path.write_text(whole, "utf-8")


def _passes(copy: Path) -> bool:
    # -B: two mutants of one file within a second must not meet in a cache of bytecode
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *TESTS]
    environment = os.environ | {"PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS_EACH, check=False
        )
    except subprocess.TimeoutExpired:
        return False  # an endless loop is noticed, too
    if done.returncode not in (0, 1, 2):
        raise RuntimeError(f"pytest cannot run in the copy: {done.stdout.decode()[-2000:]}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
