"""What the pages of the dashboard cost the server, with a large backlog, a hundred thousand just dead, and full tallies.

    python -m benchmarks.dashboard                     a million events, both databases
    python -m benchmarks.dashboard --millions 0.1 --only sqlite

The database is that of `benchmarks.health`. The tallies are at their bound: 20 handlers and 3 sources in every point of 30
days. A page is asked for with nothing kept in the process, as the first browser does, five times, and once more as the
next browser does a moment later. Prints the median in milliseconds, the statements, and the size of the page.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import databases, health

ROUNDS = 5
HANDLERS = 20
PAGES = (
    "/", "/?window=15m", "/?window=6h", "/?window=24h", "/?window=7d", "/?window=30d", "/events", "/deliveries?q=state:dead",
    "/failures", "/handlers", "/handlers/handler_3", "/sources", "/sources/close", "/refused", "/quarantine", "/doctor",
    "/subscriptions", "/processes", "/activity", "/replays",
)  # fmt: skip


def fill_tallies(store: Any) -> int:
    """Put numbers into every point that a month of a busy installation has; how many rows there are then."""
    from webhooks.store.tallies import UNTIMED, Kind, LevelSample, Ran

    chance = random.Random(1)
    counts: dict[tuple[int, str, int, int], int] = {}
    for number in range(HANDLERS):
        name = f"handler_{number}"
        for bucket in range(4, 18):
            counts[Kind.RUNS, name, Ran.SUCCEEDED, bucket] = chance.randrange(1, 900)
        counts[Kind.RUNS, name, Ran.RETRIED, UNTIMED] = counts[Kind.RUNS, name, Ran.DEAD, 15] = 3
        for level in (LevelSample.DUE, LevelSample.SCHEDULED, LevelSample.RUNNING, LevelSample.OLDEST_SECONDS):
            counts[Kind.LEVELS, name, level, UNTIMED] = chance.randrange(1, 900)
    for source in ("close", "stripe", "github"):
        for receipt in (0, 1, 2):
            for bucket in range(1, 8):
                counts[Kind.REQUESTS, source, receipt, bucket] = chance.randrange(1, 900)
        counts[Kind.REQUESTS, source, 401, UNTIMED] = 4
    counts[Kind.LEVELS, "", LevelSample.SAMPLED, UNTIMED] = 1
    ages = [
        *range(180),
        *range(180, 720, 5),
        *range(720, 4320, 30),
        *range(4320, 21600, 180),
        *range(21600, 43200, 720),
    ]
    for start in range(0, len(ages), 60):
        store.tallies.add([(age * 60.0, counts) for age in ages[start : start + 60]])
        store.tallies.fold(deletes=False)
    store.tallies.fold()
    with store.database.read() as connection:
        return int(connection.exec_driver_sql("select count(*) from webhooks_tallies").scalar_one())


def measure(kind: str, server: str | None, count: int) -> None:
    """Fill one database and print what each page took."""
    from flask import Flask
    from sqlalchemy import event

    from webhooks.app import Webhooks
    from webhooks.dashboard import DashboardUser, UserRole
    from webhooks.dashboard.kept import Remembered
    from webhooks.database.connect import connect
    from webhooks.routing import Registry
    from webhooks.store import Store

    with databases.database(kind, server) as url:
        databases.upgrade(url)
        health.fill(url, count)
        registry = Registry()
        for number in range(HANDLERS):
            registry.on("**", name=f"handler_{number}")(lambda event: None)
        secrets = {name: {"secret": f"{number:02x}" + "6b8f0c1e5a2d49738e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e"} for number, name in enumerate(("close",))}  # fmt: skip
        overrides = {
            "database_url": url,
            "sources": secrets,
            "secret_key": "signs what the benchmark asks for",
            "tallies": False,
        }
        webhooks = Webhooks(
            registry=registry,
            overrides=overrides,
            environ={},
            dashboard_user=lambda: DashboardUser("ada", UserRole.OPERATOR),
        )
        app = Flask("benchmark")
        webhooks.init_app(app)
        try:
            begun = time.perf_counter()
            patient = connect(url)  # a web process gives a statement two seconds
            rows = fill_tallies(Store(patient, {}))
            patient.dispose()
            print(f"{kind:11} {rows:,} rows of tallies, made in {time.perf_counter() - begun:.1f} s", flush=True)
            said: list[str] = []
            event.listen(webhooks.database.engine, "before_cursor_execute", lambda *told: said.append(told[2]))
            kept: list[Remembered] = []
            real = Remembered.get

            def get(self: Remembered, *arguments: Any) -> Any:
                kept.append(self)
                return real(self, *arguments)

            Remembered.get = get  # type: ignore[method-assign]
            client = app.test_client()
            for page in PAGES:
                took, later = [], 0.0
                for _ in range(ROUNDS):
                    for each in kept:
                        each._values.clear()
                    webhooks.store.tallies._known.clear()
                    said.clear()
                    begun = time.perf_counter()
                    response = client.get(f"/dashboard{page}")
                    took.append((time.perf_counter() - begun) * 1000)
                    statements = len([one for one in said if not one.lower().startswith(("pragma", "begin", "set "))])
                    begun = time.perf_counter()
                    client.get(f"/dashboard{page}")
                    later = (time.perf_counter() - begun) * 1000
                print(
                    f"{kind:11} {page:28} {response.status_code} {statistics.median(took):8.1f} ms  {statements:3} statements  "
                    f"{len(response.data) / 1000:6.1f} kB   then {later:6.1f} ms",
                    flush=True,
                )
            Remembered.get = real  # type: ignore[method-assign]
        finally:
            webhooks.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__.partition("\n")[0])
    parser.add_argument("--millions", type=float, default=1, help="events (%(default)s)")
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one database")
    options = parser.parse_args(arguments)
    for kind, server in databases.each_kind(options.only):
        measure(kind, server, int(options.millions * 1_000_000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
