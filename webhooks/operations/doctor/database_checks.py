"""What may be wrong with the database: its schema, its partitions, whether it can be written. Pure."""

from __future__ import annotations

from webhooks.database import Unmigrated
from webhooks.operations.doctor.facts import Facts
from webhooks.operations.doctor.findings import Complaint, Level
from webhooks.store.retention.partitions import Problem, Trouble


def partition_held(problem: Problem) -> Complaint | None:
    """An old partition that something still needs."""
    return _of_partitions(problem, Trouble.HELD, Level.WARNING)


def partitions_ending(problem: Problem) -> Complaint | None:
    """None is made ahead."""
    return _of_partitions(problem, Trouble.ENDING, Level.WARNING)


def partition_strays(problem: Problem) -> Complaint | None:
    """Events stand outside of them."""
    return _of_partitions(problem, Trouble.STRAYS, Level.NOTE)


def _of_partitions(problem: Problem, trouble: Trouble, level: Level) -> Complaint | None:
    return Complaint(level, "database", problem.text, problem.command) if problem.trouble is trouble else None


def table_without_migration(found: Unmigrated) -> Complaint | None:
    """A plugin's code has a table that no migration makes."""
    return Complaint(Level.ERROR, found.history.name, f"{found.text}: handlers that use it fail", found.command)


def schema_behind(facts: Facts) -> Complaint | None:
    """The schema is not at head; nothing else in the database was looked at."""
    if facts.schema_is_current:
        return None
    return Complaint(
        Level.ERROR,
        "database",
        "the database schema is not at head, so events are answered 503; nothing else in it was looked at",
        "webhooks db upgrade",
    )


def database_away(facts: Facts) -> Complaint | None:
    """The database cannot be used."""
    if facts.database_problem is None:
        return None
    text = f"the database cannot be used, so events are answered 503: {facts.database_problem}"
    return Complaint(Level.ERROR, "database", text)


def writes_refused(facts: Facts) -> Complaint | None:
    """A trial write is refused."""
    if facts.write_problem is None:
        return None
    text = f"a trial write is refused, so events are answered 503: {facts.write_problem}"
    return Complaint(Level.ERROR, "database", text)


def no_wakeup(facts: Facts) -> Complaint | None:
    """Notifications do not arrive, so workers poll."""
    if facts.wakeup_problem is None:
        return None
    text = (
        f"a notification was sent through the database and did not arrive ({facts.wakeup_problem}): new events wait up to "
        "poll_interval; a pooler in transaction mode passes none on, so set listen_url to the server itself"
    )
    return Complaint(Level.WARNING, "database", text)
