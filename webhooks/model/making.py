"""Makes records of frozen dataclasses from rows, as quickly as those of others are made.

A frozen dataclass sets each field by `object.__setattr__`: a delivery and its event have forty, and cost five times what
assignments do, which is a twentieth of what a worker does for a delivery.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def unfrozen(frozen: type[Any]) -> Any:
    """A class of the same fields as a frozen dataclass, and so of the same layout: its instances may become that one's.

    They do by `made.__class__ = frozen`, once their fields are set. A class with a `__post_init__` of its own is not for this.
    """
    return dataclasses.make_dataclass(
        frozen.__name__,
        [
            (field.name, Any, dataclasses.field(default=field.default, default_factory=field.default_factory))
            for field in dataclasses.fields(frozen)
        ],
        bases=getattr(frozen, "__orig_bases__", ()),
        slots="__slots__" in vars(frozen),
        repr=False,
        eq=False,
    )


__all__ = ["unfrozen"]
