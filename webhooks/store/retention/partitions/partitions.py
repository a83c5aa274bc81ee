"""`Partitions`: all that can be done to them, and what an operator should know of them."""

from __future__ import annotations

from datetime import datetime

from webhooks.formats import shown_instant
from webhooks.model import id_at
from webhooks.store.retention.partitions.dropping import PartitionDropping
from webhooks.store.retention.partitions.postgresql import holders_of
from webhooks.store.retention.partitions.records import DEFAULT, Holders, Partition, Problem, Trouble


class Partitions(PartitionDropping):
    """The partitions of `webhooks_events` in one database."""

    def problems(self, before: datetime) -> list[Problem]:
        """What an operator should know of the partitions. before: events received earlier may go."""
        partitions = self.all()
        if partitions is None:
            return []
        old = [each for each in partitions if each.upper is not None and each.upper <= id_at(before)]
        with self.database.read() as connection:
            holders = [(each, holders_of(connection, each, self.dialect)) for each in old]
            look = f"select count(*) from (select 1 from {DEFAULT} limit 10000) d"
            has_default = any(each.is_default for each in partitions)
            strays = connection.exec_driver_sql(look).scalar_one() if has_default else 0
        found = [_held(each, holding) for each, holding in holders if holding]
        missing, there = self._missing(None)
        last = max((each.until for each in there if each.until is not None), default=self.database.now())
        if len(missing) > 1:
            text = f"partitions reach until {last:%Y-%m-%d} only, and no worker has made those ahead"
            found.append(Problem(Trouble.ENDING, text, "webhooks db partition"))
        if strays:
            text = (
                f"the default partition has events ({strays if strays < 10_000 else '10000 or more'}), because none was "
                "made for their time; they are pruned row by row"
            )
            found.append(Problem(Trouble.STRAYS, text, "webhooks db partition --status"))
        return found


def _held(partition: Partition, holders: Holders) -> Problem:
    text = f"partition {partition.name} is old enough to be dropped, and held by {holders}"
    if not holders.deliveries:
        return Problem(Trouble.HELD, text, "webhooks replay list")
    states = ",".join(state.label for state in holders.deliveries)
    times = f" --since {shown_instant(partition.since)}" if partition.since is not None else ""
    times += f" --until {shown_instant(partition.until)}" if partition.until is not None else ""
    return Problem(Trouble.HELD, text, f"webhooks deliveries list --state {states}{times}")


__all__ = ["Partitions"]
