"""Pools as real processes: one is killed and the other notices nothing; unknown queues are refused at the start."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.acceptance.fleet import Fleet, fleet
from tests.acceptance.support import Processes
from tests.support import wait_until
from webhooks.model import DeliveryState

HANDLERS = """
@on("**", name="mail", retry=SOON)
def mail(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)


@on("**", name="video", queue="video", retry=SOON)
def video(event, session, delivery):
    note("start", delivery, event)
    effect(session, event, delivery)
    time.sleep(0.1)
"""


def runs_of(made: Fleet, handler: str) -> int:
    return len(made.journal("start", handler))


@pytest.mark.thorough
@pytest.mark.forks
@pytest.mark.one_database
def test_a_pool_that_is_killed_waits_for_its_own_and_the_other_is_untouched(
    processes: Processes, database_url: str
) -> None:
    with fleet(processes, database_url, HANDLERS) as made:
        (mail,) = made.start(command=("webhooks", "worker", "--without", "video"))
        (video,) = made.start(command=("webhooks", "worker", "--queues", "video"))
        made.put([{"n": n} for n in range(30)], "mail", "video")
        wait_until(lambda: runs_of(made, "video") > 0, what="a run of the pool")
        video.kill()
        made.put([{"n": n} for n in range(30)], "mail", "video")
        made.wait_until_finished(30, but="video")
        assert mail.is_running
        assert runs_of(made, "mail") == 60, "each once: none of it was rescued"

        def are_rescued() -> bool:
            return not made.states()[DeliveryState.RUNNING]

        wait_until(are_rescued, timedelta(seconds=20), "the other pool to rescue what died")
        assert '"video"' not in (processes.directory / "journal" / str(mail.pid)).read_text()
        assert made.states()[DeliveryState.PENDING] > 0, "nothing of it runs without its pool"
        seen = runs_of(made, "video")
        made.put([{"n": n} for n in range(10)], "mail")
        wait_until(lambda: runs_of(made, "mail") == 70, what="the pool that lives")
        assert runs_of(made, "video") == seen

        made.start(command=("webhooks", "worker"), WEBHOOKS_WORKER_QUEUES="video")
        made.wait_until_finished(60)
        assert set(made.effects().values()) == {1}
        assert len(made.effects()) == 130


@pytest.mark.forks("run")
def test_an_unknown_queue_ends_the_start_with_what_was_meant(processes: Processes, sqlite_url: str) -> None:
    with fleet(processes, sqlite_url, HANDLERS) as made:
        for command, text in (
            (("--queues", "vidoe,default"), "no handler is in the queue 'vidoe' (did you mean 'video'?)"),
            (("--without", "mial"), "no handler is in the queue 'mial'; queues: default, video"),
            (("--queues", "video", "--without", "video"), "no queue is left to run"),
        ):
            refused = processes.run("webhooks", "worker", *command, env=made.env)
            assert refused.wait() != 0
            assert text in refused.output
        refused = processes.run("webhooks", "worker", env={**made.env, "WEBHOOKS_WORKER_QUEUES": "vidoe"})
        assert "did you mean 'video'?" in refused.output
