"""Which note of a sandbox is believed: one of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from webhooks.operations import local_sandbox


@pytest.mark.parametrize("address", ["http://10.0.0.1:1/api/v1/", "https://127.0.0.1:1/", "http://localhost/", 5])
def test_only_a_local_close_of_this_machine_is_asked(tmp_path: Path, address: object) -> None:
    note = tmp_path / "close.json"
    note.write_text(json.dumps({"api_url": address, "api_key": "k"}))
    assert local_sandbox.find(note) is None
    assert local_sandbox.find(tmp_path / "none.json") is None


def test_its_address_and_key_are_read(tmp_path: Path) -> None:
    note = tmp_path / "close.json"
    note.write_text(json.dumps({"api_url": "http://127.0.0.1:8765/api/v1/", "api_key": "k"}))
    assert local_sandbox.find(note) == local_sandbox.LocalSandbox("http://127.0.0.1:8765/api/v1/", "k")
