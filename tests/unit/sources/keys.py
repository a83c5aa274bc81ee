"""RSA keys for tests, made once a process: each takes as long as ten tests."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
