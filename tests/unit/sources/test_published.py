"""Secrets that stand in documents, and placeholders, are refused for every source; random ones never."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import each
from webhooks.errors import ConfigurationError
from webhooks.settings import Secret, SourceSettings
from webhooks.sources import make_source
from webhooks.sources.keys.keyring import KeyRing
from webhooks.sources.keys.published import why_weak

#: The key of the example in Close's documents. Source: https://developer.close.com/resources/webhook-subscriptions/
CLOSE_DOCUMENTED = "058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c"

WEAK = (
    "your-webhook-secret", "<your secret>", "${WEBHOOK_SECRET}", "YOUR_SECRET_KEY", "CHANGE_ME", "changeme", "changeit123",
    "secretsecretsecret", "xxxxxxxxxxxxxxxxxxxxxxxxxxxx", "0123456789abcdef", "0123456789abcdef" * 4, "deadbeef" * 8,
    "00112233445566778899aabbccddeeff" * 2, bytes(range(32)).hex(), bytes(range(64, 32, -1)).hex(), "whsec_test_secret",
    "whsec_test1234567890", "whsec_your_signing_secret_here", "whsec_eW91ci13ZWJob29rLXNlY3JldA==", "my-secret-key-123",
    "MySuperSecretToken!", "s3cr3t-t0k3n-here", "p@ssw0rd123", "abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba",
    "12345678901234567890", "replace-me-with-a-random-string", "test-webhook-secret-2024", "correct horse battery staple",
    b"supersecretsupersecretsupersecre".hex(), "this is not a secret", "letmein", "your-256-bit-secret", "abc123abc123abc123",
    "qwertyuiop123456", "todo-set-this", "dummy-signing-secret", CLOSE_DOCUMENTED, CLOSE_DOCUMENTED.upper(),
)  # fmt: skip
STRONG = (
    "k7Qm2vX9pLr4sT8wZ3nB6yHd", "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f", "acme-4f9d0c7be2a1483f",
    "another-secret-of-24-chars", "VdoqDyA52eot/ZEfPQQG9u0lg78wQdxj3QiozEJ0jqg=", "pdl_ntfset_k7Qm2vX9pLr4sT8wZ3nB6yHd",
)  # fmt: skip


@each("text", WEAK)
def test_what_everybody_has_or_writes_to_replace_it_later_is_no_secret(text: str) -> None:
    reason = why_weak(text, "whsec_")
    assert reason is not None
    assert text not in reason


@pytest.mark.parametrize("text", STRONG)
def test_what_is_random_is_a_secret_whatever_stands_before_it(text: str) -> None:
    assert why_weak(text, "whsec_") is None


@given(st.integers(0, 2**64))
def test_no_random_secret_is_refused(seed: int) -> None:
    chance = random.Random(seed)
    for alphabet, size in ((string.hexdigits.lower()[:16], 64), (string.ascii_letters + string.digits + "-_", 24)):
        assert why_weak("".join(chance.choices(alphabet, k=size))) is None


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        ("close", CLOSE_DOCUMENTED), ("close", "0123456789abcdef" * 4), ("close", "deadbeef" * 8),
        ("close", b"supersecretsupersecretsupersecre".hex()), ("github", "your-webhook-secret"), ("stripe", "whsec_test_secret_value"),
        ("hmac", "secretsecretsecret"), ("basic", "user:changeme-changeme"),
    ],
)  # fmt: skip
def test_a_weak_secret_does_not_start_wherever_it_comes_from(tmp_path: Path, scheme: str, secret: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"live": secret}))
    options = {"signature": "@x-signature", "type": "{type}", "id": "{id}"} if scheme == "hmac" else {}
    for settings in (
        SourceSettings("s", scheme, [Secret(secret, "live")], accept_unsigned_body=True, options=options),
        SourceSettings("s", scheme, secret_file=file, accept_unsigned_body=True, options=options),
    ):
        with pytest.raises(ConfigurationError, match=r"secret 'live' (is|must)") as caught:
            make_source(settings)
        assert secret not in str(caught.value)


def test_a_weak_secret_that_comes_into_the_file_later_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strong = STRONG[1]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"old": strong}))
    source = make_source(SourceSettings("s", "close", secret_file=file))
    keys: KeyRing[bytes] = source.keys  # type: ignore[attr-defined]
    file.write_text(json.dumps({"old": strong, "new": CLOSE_DOCUMENTED}))
    assert not keys.refresh()
    assert [key.label for key in keys.current()] == ["old"]
    assert "secret 'new' is printed in a vendor's documents" in caplog.text
    assert CLOSE_DOCUMENTED not in caplog.text
