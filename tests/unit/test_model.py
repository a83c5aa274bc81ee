"""Ids: they grow, take nobody's random numbers, and differ between a process and its fork."""

from __future__ import annotations

import os
import random

from webhooks.model import new_id
from webhooks.model.events import _Ids


def test_ids_grow_strictly() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert 0 < ids[0] < ids[-1] < 2**63


def test_making_an_id_leaves_the_random_numbers_of_others_alone() -> None:
    before = random.getstate()
    new_id()
    assert random.getstate() == before


def test_a_forked_child_draws_other_numbers_than_its_parent() -> None:
    ids = _Ids()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, bytes(ids._random.getrandbits(8) for _ in range(16)))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    theirs = os.read(reader, 16)
    os.close(reader)
    assert theirs != bytes(ids._random.getrandbits(8) for _ in range(16))
