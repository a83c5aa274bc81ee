"""Keys of a source in rotation: which are held, when each was last used, which may go, and the steps from one to the next.

`look` and `step` are pure. A rotation is walked through by calling the same command again: a new key beside the old one, the
sender's own page, and, once a request was verified by the new key and the old one rests, the old one's end. Nothing is remembered
of it but the key file and when each key was last used, so it may be interrupted at any point.

Not here: senders that make their keys by API (`subscriptions`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from webhooks.errors import ConfigurationError, NotFound
from webhooks.formats import did_you_mean

if TYPE_CHECKING:
    from webhooks.sources import Source
    from webhooks.store import Store

#: A key that was last used so long before another may go: senders repeat what failed for three days, with its first signature.
REST = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class KeyView:
    """One key of a source, by its label.

    is_held: requests are tried with it.
    is_in_file: it stands in the secret_file, else in the settings.
    held_since: when the file with it was last changed; None for the settings, and for keys that are gone.
    last_used_at: when it last verified a request; None: never, as far as is known.
    may_go: another key that is held was used when this one had rested for `REST`.
    """

    label: str
    is_held: bool
    is_in_file: bool = False
    held_since: datetime | None = None
    last_used_at: datetime | None = None
    may_go: bool = False


def of_source(source: Source, used: Mapping[str, datetime]) -> list[KeyView]:
    """The keys of a source: those that it holds now, then those that are known from their use alone.

    used: {label: when it last verified a request}.
    """
    from webhooks.sources import KeyFile

    file = source.settings.secret_file
    in_file: Sequence[str] = ()
    changed: datetime | None = None
    if file is not None and file.exists():
        in_file = KeyFile(source.name, file).labels()
        changed = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    return look(list(source.labels()), in_file, changed, used)


def look(
    held: Sequence[str], in_file: Sequence[str], changed: datetime | None, used: Mapping[str, datetime]
) -> list[KeyView]:
    """The same of labels.

    held: of all keys.
    in_file: of those that stand in the key file.
    changed: when that was.
    """
    views = [
        KeyView(label, True, label in in_file, changed if label in in_file else None, used.get(label)) for label in held
    ]
    newest = max((each.last_used_at for each in views if each.last_used_at is not None), default=None)
    views = [
        replace(
            each, may_go=each.last_used_at is not None and newest is not None and newest - each.last_used_at >= REST
        )
        for each in views
    ]
    return views + [KeyView(label, False, last_used_at=at) for label, at in used.items() if label not in held]


class KeyStep(enum.Enum):
    """What comes next in a rotation."""

    ADD = "add"  #: one key is held, and a new one is put beside it
    WAIT = "wait"  #: no request came under the new key yet
    REST = "rest"  #: requests came under both lately, and the sender may repeat one of the old
    REMOVE = "remove"  #: the old key may go


@dataclass(frozen=True, slots=True)
class KeyChange:
    """Where a rotation is. old, new: labels; "" where there is no such key."""

    step: KeyStep
    old: str = ""
    new: str = ""


def step(keys: Sequence[KeyView]) -> KeyChange:
    """Where the rotation of a source is, by its keys. Of several, the one that was used last is the new one."""
    held = [each for each in keys if each.is_held]
    if len(held) < 2:
        return KeyChange(KeyStep.ADD, held[0].label if held else "")
    unused = [each for each in held if each.last_used_at is None]
    used = sorted((each for each in held if each.last_used_at is not None), key=lambda each: str(each.last_used_at))
    if unused or len(used) < 2:
        # the last of the file is the newest
        return KeyChange(KeyStep.WAIT, used[-1].label if used else held[0].label, unused[-1].label)
    old = used[0]
    return KeyChange(KeyStep.REMOVE if old.may_go else KeyStep.REST, old.label, used[-1].label)


def require_rotatable(source: Source) -> None:
    """Raise ConfigurationError where the key is not ours to change, or could not be written."""
    from webhooks.sources import KeyFile, with_log

    log = with_log(source)
    if log is not None and log.lists_subscriptions:
        raise ConfigurationError(
            f"the keys of source {source.name!r} come with its sender's subscriptions; rotate one with: webhooks subscriptions rotate"
        )
    if not source.labels():
        raise ConfigurationError(
            f"source {source.name!r} holds no key of its own: its sender publishes them, or secrets_from looks them up"
        )
    KeyFile(source.name, source.settings.secret_file).require_writable()


def add(source: Source, label: str, text: str) -> None:
    """Put a new key beside those that are held. Raises ConfigurationError, without the key, for one that cannot be used."""
    from webhooks.sources import KeyFile, Secret, make_source

    if label in source.labels():
        raise ConfigurationError(f"source {source.name!r} holds a key labelled {label!r} already; give another --label")
    make_source(replace(source.settings, secrets=[Secret(text, label)], secret_file=None))  # refuses what is no key
    file = KeyFile(source.name, source.settings.secret_file)
    if text in {secret.reveal() for secret in (*source.settings.secrets, *file.secrets())}:
        raise ConfigurationError(
            f"source {source.name!r} holds this very key already; take the new one from the sender"
        )
    file.put(label, Secret(text, label))


def remove(store: Store, source: Source, label: str) -> None:
    """Take a key out of the file, and forget when it was used. Raises NotFound, and ConfigurationError for the last one."""
    from webhooks.sources import KeyFile

    file = KeyFile(source.name, source.settings.secret_file)
    labels = file.labels()
    if label not in labels:
        where = "; it stands in the settings: take it out of secret there" if label in source.labels() else ""
        raise NotFound(
            f"no key of the file of {source.name!r} is labelled {label!r}{did_you_mean(label, labels)}{where}"
        )
    if not file.remove(label):
        raise ConfigurationError(f"{label!r} is the only key in the file of source {source.name!r}, and one must stay")
    store.key_uses.forget(source.name, [label])


__all__ = ["REST", "KeyChange", "KeyStep", "KeyView", "add", "look", "of_source", "remove", "require_rotatable", "step"]
