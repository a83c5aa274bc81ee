"""What people can do, as it is kept on record, and what takes each back. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class Verb(enum.StrEnum):
    """One kind of action. The value is what the database holds."""

    PAUSE = "pause"  #: stop all workers from running a handler
    RESUME = "resume"  #: let them run it again, and close its circuit breaker
    TRY_ONE = "try_one"  #: let one delivery through an open circuit breaker
    REQUEUE = "requeue"  #: put dead and cancelled deliveries back to pending
    CANCEL = "cancel"  #: end deliveries unrun
    REPLAY = "replay"  #: make new deliveries for stored events
    REPLAY_CANCEL = "replay_cancel"  #: stop a replay, and cancel what has not run
    REPLAY_RESUME = "replay_resume"  #: continue one whose process was stopped
    QUARANTINE_RETRY = "quarantine_retry"  #: verify and read held requests again
    QUARANTINE_DROP = "quarantine_drop"  #: give held requests up
    QUARANTINE_HOLD = "quarantine_hold"  #: hold again what was given up
    CATCH_UP = "catch_up"  #: read a sender's log
    SUBSCRIPTION_CREATE = "subscription_create"
    SUBSCRIPTION_SYNC = "subscription_sync"  #: make subscriptions ask for what the handlers want
    SUBSCRIPTION_PAUSE = "subscription_pause"
    SUBSCRIPTION_RESUME = "subscription_resume"
    SUBSCRIPTION_ROTATE = "subscription_rotate"
    FIX = "fix"  #: what doctor does by itself
    EXAMINE = "examine"  #: look for what is wrong now
    MUTE = "mute"  #: say nothing of an alarm for a while
    UNMUTE = "unmute"
    PRUNE = "prune"  #: delete old events, by hand
    REVEAL = "reveal"  #: read what redaction hides
    EXPORT = "export"
    CURL = "curl"  #: make a signed request of a stored event
    LOGIN = "login"
    LOGIN_FAILED = "login_failed"
    LOGOUT = "logout"

    @property
    def label(self) -> str:
        """As people read it: `quarantine drop`."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True)
class VerbFacts:
    """What holds of a verb.

    done: what it did, without its subject: "paused".
    undo: what takes it back; None: nothing does.
    undo_says: what taking it back does, and for how long that is possible.
    wants_why: whether a reason is asked for.
    changes: False for what only reads, or comes and goes.
    """

    done: str
    undo: Verb | None = None
    undo_says: str = ""
    wants_why: bool = False
    changes: bool = True


FACTS: Mapping[Verb, VerbFacts] = {
    Verb.PAUSE: VerbFacts("paused", Verb.RESUME, "runs the handler again", wants_why=True),
    Verb.RESUME: VerbFacts("resumed", Verb.PAUSE, "pauses the handler again"),
    Verb.TRY_ONE: VerbFacts("let one delivery try"),
    Verb.REQUEUE: VerbFacts(
        "requeued", Verb.CANCEL, "cancels those that have not run since; they are cancelled then, not dead"
    ),
    Verb.CANCEL: VerbFacts(
        "cancelled", Verb.REQUEUE, "requeues what it cancelled, until that is pruned", wants_why=True
    ),
    Verb.REPLAY: VerbFacts(
        "started a replay", Verb.REPLAY_CANCEL, "cancels the replay, while its deliveries wait", wants_why=True
    ),
    Verb.REPLAY_CANCEL: VerbFacts("cancelled a replay", wants_why=True),
    Verb.REPLAY_RESUME: VerbFacts("continued a replay"),
    Verb.QUARANTINE_RETRY: VerbFacts("read quarantined requests again"),
    Verb.QUARANTINE_DROP: VerbFacts(
        "gave quarantined requests up", Verb.QUARANTINE_HOLD, "holds them again, until they are pruned", wants_why=True
    ),
    Verb.QUARANTINE_HOLD: VerbFacts("held quarantined requests again", Verb.QUARANTINE_DROP, "gives them up again"),
    Verb.CATCH_UP: VerbFacts("caught up"),
    Verb.SUBSCRIPTION_CREATE: VerbFacts("made a subscription"),
    Verb.SUBSCRIPTION_SYNC: VerbFacts("changed subscriptions"),
    Verb.SUBSCRIPTION_PAUSE: VerbFacts(
        "paused a subscription", Verb.SUBSCRIPTION_RESUME, "lets the subscription run again", wants_why=True
    ),
    Verb.SUBSCRIPTION_RESUME: VerbFacts("resumed a subscription"),
    Verb.SUBSCRIPTION_ROTATE: VerbFacts("replaced the key of a subscription"),
    Verb.FIX: VerbFacts("did what doctor found safe"),
    Verb.EXAMINE: VerbFacts("looked for what is wrong", changes=False),
    Verb.MUTE: VerbFacts("muted an alarm", Verb.UNMUTE, "tells the alarm again"),
    Verb.UNMUTE: VerbFacts("ended the mute of an alarm", Verb.MUTE, "mutes it again, for as long as it was"),
    Verb.PRUNE: VerbFacts("deleted old events"),
    Verb.REVEAL: VerbFacts("read redacted values", wants_why=True, changes=False),
    Verb.EXPORT: VerbFacts("exported", changes=False),
    Verb.CURL: VerbFacts("made a signed request", changes=False),
    Verb.LOGIN: VerbFacts("logged in", changes=False),
    Verb.LOGIN_FAILED: VerbFacts("failed to log in", changes=False),
    Verb.LOGOUT: VerbFacts("logged out", changes=False),
}
assert set(FACTS) == set(Verb)

#: Those that change many deliveries in steps; a worker continues what another process left.
IN_STEPS = (Verb.REQUEUE, Verb.CANCEL)
#: Those that a worker does for a page, and does again when one died at it: each is safe to do twice.
BY_A_WORKER = (
    Verb.FIX,
    Verb.EXAMINE,
    Verb.QUARANTINE_RETRY,
    Verb.SUBSCRIPTION_SYNC,
    Verb.SUBSCRIPTION_PAUSE,
    Verb.SUBSCRIPTION_RESUME,
    Verb.CATCH_UP,
)


def facts_of(verb: str) -> VerbFacts:
    """The facts of a verb as the database holds it; of one that another version wrote, its name alone."""
    return FACTS[Verb(verb)] if verb in FACTS else VerbFacts(verb.replace("_", " "))


__all__ = ["BY_A_WORKER", "FACTS", "IN_STEPS", "Verb", "VerbFacts", "facts_of"]
