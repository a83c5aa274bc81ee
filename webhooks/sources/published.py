"""Secrets that stand in vendors' documents and libraries, and why one is not a secret.

Kept as digests: the values are public, but programs that look for leaked secrets would stumble over them here. A
test makes each digest again from the vectors' files.
"""

from __future__ import annotations

import hashlib

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
    )
)


def why_weak(text: str, prefix: str = "") -> str | None:
    """Why this text, blank ones aside, can be no secret; None when nothing speaks against it."""
    bare = text.strip().removeprefix(prefix)
    if hashlib.sha256(bare.encode("utf-8", "surrogatepass")).hexdigest() in PUBLISHED:
        return "is printed in a vendor's documents, so everybody has it; make a new one"
    if len(set(bare)) < 5:
        return "is made of fewer than 5 different characters; make a random one"
    return None
