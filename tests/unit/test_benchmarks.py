"""The parts of the benchmarks that decide something: statistics, when not to judge, signing, reading answers and traces."""

from __future__ import annotations

import json
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import events, load, measure, processes, report, synced
from benchmarks.measure import Goal, Reference, Summary
from webhooks.model import Headers
from webhooks.sources.close import envelope, signature
from webhooks.sources.keys.keyring import Key

QUIET = [Reference(0.1, 1.0), Reference(0.101, 0.99), Reference(0.102, 1.0)]


# -- statistics --------------------------------------------------------------------------------------------


def test_a_summary_has_median_and_range() -> None:
    summary = measure.summarise([4.0, 1.0, 2.0])
    assert (summary.median, summary.low, summary.high, summary.rounds) == (2.0, 1.0, 4.0, 3)
    assert summary.spread == 1.5
    assert summary.show(1) == "2.0 (1.0 – 4.0)"


def test_nothing_measured_is_an_error_and_no_zero() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        measure.summarise([])
    with pytest.raises(ValueError, match="nothing was measured"):
        measure.percentile([], 0.5)


def test_ratios_are_made_round_by_round() -> None:
    """A slow round is slow for both: 30/10, 60/20 and 3/1 are all 3, though the medians are 30 and 10."""
    ratio = measure.ratios([30, 60, 3], [10, 20, 1])
    assert (ratio.low, ratio.median, ratio.high) == (3, 3, 3)


def test_rounds_that_do_not_pair_up_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="2 rounds of ours, 1 of theirs"):
        measure.ratios([1, 2], [1])
    with pytest.raises(ValueError, match="measured 0"):
        measure.ratios([1], [0])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    assert measure.percentile(list(range(100, 0, -1)), share) == expected


# -- noise -------------------------------------------------------------------------------------------------


def test_a_quiet_machine_is_judged() -> None:
    assert measure.noise(QUIET) is None


@pytest.mark.parametrize(
    ("references", "reason"),
    [
        ([], "too few references"),
        ([Reference(0.1, 1.0)], "too few references"),
        ([*QUIET, Reference(0.12, 1.0)], "the same work took 100 to 120 ms (20% apart, at most 15% is allowed)"),
        ([Reference(0.2, 0.5)] * 3, "other programs took 50% of the machine"),
    ],
)
def test_a_noisy_machine_is_refused_with_the_reason(references: list[Reference], reason: str) -> None:
    said = measure.noise(references)
    assert said is not None
    assert reason in said


def test_the_reference_takes_time_on_every_core() -> None:
    one = measure.reference()
    assert one.seconds > 0
    assert 0 < one.share < 1.2


@pytest.mark.parametrize(
    ("ratio", "goal", "verdict"),
    [
        (Summary(6.2, 6.0, 6.5, 3), Goal(6), "reached"),
        (Summary(5.0, 4.0, 5.9, 3), Goal(6), "not reached"),
        (Summary(6.0, 4.0, 8.0, 3), Goal(6), "undecided"),
        (Summary(6.1, 5.9, 6.2, 3), Goal(6), "reached"),
        (Summary(5.9, 5.8, 6.1, 3), Goal(6), "not reached"),
        (Summary(6.1, 5.9, 6.2, 2), Goal(6), "undecided"),
        (Summary(0.2, 0.1, 0.25, 3), Goal(0.25, at_most=True), "reached"),
        (Summary(0.4, 0.3, 0.5, 3), Goal(0.25, at_most=True), "not reached"),
        (Summary(9, 9, 9, 3), None, ""),
    ],
)
def test_a_goal_is_reached_missed_or_undecided(ratio: Summary, goal: Goal | None, verdict: str) -> None:
    assert measure.verdict(ratio, goal, None) == verdict


def test_nothing_is_judged_on_a_noisy_machine() -> None:
    assert measure.verdict(Summary(9, 9, 9, 3), Goal(1), "too noisy") == "not judged"


def test_a_comparison_shows_figures_ratios_and_what_is_missing(tmp_path: Path) -> None:
    comparison = report.Comparison("title", [report.Column("speed", "per second", 0)])
    for speed in (60, 61, 62):
        comparison.add("ours", "Ours", {"speed": speed, "stored": 1.0})
        comparison.add("peer", "Theirs", {"speed": 10})
        comparison.references.append(Reference(0.1, 1.0))
    comparison.judge("ours", "peer", "speed", Goal(6))
    comparison.judge("ours", "absent", "speed", Goal(6))
    comparison.missing["Fastify"] = "node is not installed"
    text = comparison.show()
    assert "Ours    61 (60 – 62)" in text
    assert "per second: Ours ÷ Theirs  6.10 (6.00 – 6.20)   ≥ 6  reached" in text
    assert "not run: Fastify: node is not installed" in text
    report.keep(str(tmp_path / "kept.json"), "ingest", [comparison])
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["comparisons"][0]["contenders"]["ours"]["rounds"]["speed"] == [60, 61, 62]
    assert [ratio["verdict"] for ratio in kept["comparisons"][0]["ratios"]] == ["reached"]


def test_a_2xx_without_its_row_is_noticed() -> None:
    comparison = report.Comparison("title", [])
    comparison.add("ours", "Ours", {"stored": 1.0})
    assert comparison.is_complete
    comparison.add("ours", "Ours", {"stored": 0.999})
    assert not comparison.is_complete


# -- events and requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2100, 20_000])
def test_bodies_are_events_of_their_own_and_of_the_wanted_size(size: int) -> None:
    make = events.make_bodies(size)
    made = [make() for _ in range(3)]
    parsed = [envelope.parse_delivery(body) for _, body in made]
    assert [event.dedup_key for event in parsed] == [id for id, _ in made]
    assert len({event.dedup_key for event in parsed}) == len({event.ordering["object_id"] for event in parsed}) == 3
    assert all(abs(len(body) - size) < 0.05 * size for _, body in made)


def test_every_request_is_signed_when_it_is_made() -> None:
    request = events.make_requests("/webhooks/close", events.make_bodies())()
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /webhooks/close HTTP/1.1"
    headers = Headers([(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])])
    assert headers.one("content-length") == str(len(body)).encode()
    assert signature.verify(headers, body, [Key("k", events.KEY)], datetime.now(UTC)) == "k"


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", (200, 40, True)),
        (b"HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nhiHTTP/1.1 ", (200, 39, True)),
        (b"HTTP/1.1 503 No\r\nConnection: close\r\n\r\n", (503, 38, False)),
    ],
)
def test_an_answer_is_read_whole_or_not_at_all(data: bytes, answer: tuple[int, int, bool] | None) -> None:
    assert load.answer_of(data) == answer


def test_the_load_counts_what_each_request_got() -> None:
    """Of ten requests over two connections the third gets a 503 and the fifth a broken connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    count = iter(range(1, 100))
    lock = threading.Lock()

    def serve() -> None:
        while True:
            try:
                held, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(held,), daemon=True).start()

    def answer(held: socket.socket) -> None:
        with held:
            while held.recv(100):
                with lock:
                    number = next(count)
                if number == 5:
                    return
                held.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (503 if number == 3 else 200))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        seen = load.drive(listener.getsockname(), lambda: b"x", connections=2, requests=10)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
    assert seen.statuses == {200: 8, 503: 1, 0: 1}
    assert (seen.answered, seen.refused, len(seen.latencies)) == (8, 2, 8)


# -- processes ---------------------------------------------------------------------------------------------


def test_settings_of_the_outside_do_not_reach_a_measured_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://production")
    monkeypatch.setenv("webhooks_max_body", "1")
    environ = processes.clean_environment()
    assert "DATABASE_URL" not in environ
    assert "webhooks_max_body" not in environ


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    process = processes.Process(["sh", "-c", "echo no such thing; exit 3"], log=tmp_path / "log")
    with pytest.raises(processes.DidNotStart, match=r"(?s)ended with 3.*no such thing"):
        process.wait_for_port(1)


def test_cpu_and_memory_of_this_process_are_read() -> None:
    assert os.getpid() in processes.tree(os.getppid())
    assert processes.cpu_seconds([os.getpid()]) > 0
    assert processes.pss_bytes([os.getpid()]) > 1_000_000


# -- traces ------------------------------------------------------------------------------------------------

READ = '10 recvfrom(9<socket:[1]>, "POST /webhooks/close"..., 8192, 0, NULL, NULL) = 2300'
FLUSH = "10 fdatasync(7</tmp/x/bench.db-wal>) = 0"
FLUSH_BEGUN = "11 fdatasync(7</tmp/x/bench.db-wal> <unfinished ...>"
FLUSH_DONE = "11 <... fdatasync resumed>) = 0"
FLUSH_FAILED = "10 fdatasync(7</tmp/x/bench.db-wal>) = -1 EIO (Input/output error)"
OTHER_FLUSH = "10 fdatasync(8</tmp/x/notes.txt>) = 0"
SEND = '10 sendto(9<socket:[1]>, "HTTP/1.1 200 OK\\r\\nSer"..., 180, 0, NULL, 0) = 180'
SEND_503 = '10 sendto(9<socket:[1]>, "HTTP/1.1 503 SERVICE"..., 180, 0, NULL, 0) = 180'


@pytest.mark.parametrize(
    ("lines", "answers", "unsynced"),
    [
        ([READ, FLUSH, SEND], 1, []),
        ([READ, FLUSH_BEGUN, FLUSH_DONE, SEND], 1, []),
        ([READ, SEND, FLUSH], 1, [1]),
        ([FLUSH, READ, SEND], 1, [2]),
        ([READ, FLUSH_BEGUN, SEND, FLUSH_DONE], 1, [2]),
        ([FLUSH_BEGUN, READ, FLUSH_DONE, SEND], 1, [3]),
        ([READ, FLUSH_FAILED, SEND], 1, [2]),
        ([READ, OTHER_FLUSH, SEND], 1, [2]),
        ([READ, SEND_503], 0, []),
        ([READ, FLUSH, SEND, READ, SEND], 2, [4]),
    ],
)
def test_an_answer_needs_a_finished_flush_since_its_request(
    lines: list[str], answers: int, unsynced: list[int]
) -> None:
    verdict = synced.judge(lines, synced.is_sqlite_log, synced.is_http_success)
    assert (verdict.answers, verdict.unsynced) == (answers, unsynced)


# -- patience ----------------------------------------------------------------------------------------------


def test_a_run_that_others_disturbed_is_done_again_by_who_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, noisy = Reference(0.1, 1.0), Reference(0.2, 0.5)
    references = iter([quiet, noisy, quiet, quiet])
    monkeypatch.setattr(measure, "reference", lambda: next(references))
    comparison = report.Comparison("title", [])
    runs = iter([{"speed": 1.0}, {"speed": 2.0}])
    comparison.run("ours", "Ours", lambda: next(runs), patience=60)
    assert comparison.results["ours"]["speed"] == [2.0]
    assert comparison.references == [quiet, quiet]


def test_without_patience_every_run_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = Reference(0.2, 0.5)
    monkeypatch.setattr(measure, "reference", lambda: noisy)
    comparison = report.Comparison("title", [])
    comparison.run("ours", "Ours", lambda: {"speed": 1.0}, patience=0)
    assert comparison.results["ours"]["speed"] == [1.0]
    assert comparison.references == [noisy, noisy]
