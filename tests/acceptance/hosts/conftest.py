"""Whether hosts can be made here is asked only where their tests are asked for."""

from __future__ import annotations

import pytest

from tests.acceptance.hosts.network import why_not


@pytest.fixture(scope="session")
def can_make_hosts() -> None:
    """Skip, with what is missing, where it cannot be done."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
