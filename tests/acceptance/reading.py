"""Read a page as a newcomer does: write its files, type its commands, and see what it says one sees.

What a page may have, and what is made of it:

- a block whose first line is `# path/of/a/file`: the file is written, or written anew;
- a console block: each line after `$ ` is typed, and ends with status 0, or as a comment `# exits with 1` says. Lines that follow are
  what is seen, in that order, with `…` for anything;
- `$ webhooks dev`, or `flask --app … webhooks dev`: started, or started again, and left running.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.support import SCRIPTS, Process, Processes, free_port
from tests.support import ROOT, wait_until

#: What a page says where `webhooks dev` is to end.
STOP = "Stop `webhooks dev` with Ctrl-C"
#: Commands that only look, so they may be typed until what they show is there.
LOOKS = re.compile(
    r"(?:(?:flask --app \w+ )?webhooks (?:events|deliveries|handlers|stats|explain|doctor)\b|python -c|curl )"
)


def part(page: str, first: str, last: str) -> str:
    """A page from one heading up to another."""
    text = (ROOT / page).read_text("utf-8")
    return text[text.index(f"\n## {first}\n") : text.index(f"\n## {last}\n")]


def typed(text: str) -> Iterator[str]:
    """Each command of the console blocks, a here-document with its lines, without comments."""
    for block in blocks(text, "console"):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            yield without_comment(command).strip()


def blocks(text: str, language: str) -> list[str]:
    """What stands in the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def without_comment(command: str) -> str:
    return re.sub(r" +# .*", "", command)


@dataclass(frozen=True)
class Step:
    """One thing that a page tells to do. path: of a file with this text; else the text is typed, and `seen` is seen."""

    text: str
    path: str = ""
    seen: tuple[str, ...] = ()
    status: int = 0


def steps(text: str) -> Iterator[Step]:
    """What a page tells to do, in its order. Blocks of other kinds are left out."""
    pattern = rf"^(?:{STOP}|```(\w+)[^\n]*\n(.*?)^```)"
    for language, block in re.findall(pattern, text, re.MULTILINE | re.DOTALL):
        if not language:
            yield Step(STOP)
        elif language == "console":
            for each in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *seen = each.splitlines()
                status = re.search(r" # exits with (\d+)", command)
                yield Step(
                    without_comment(command).strip(),
                    seen=tuple(line for line in seen if line.strip()),
                    status=int(status[1]) if status else 0,
                )
        elif match := re.match(r"# ([\w./-]+)\n", block):
            yield Step(block, path=match[1])


def is_shown(seen: tuple[str, ...], output: str) -> bool:
    """Whether the lines are in the output, in that order; `…` stands for anything within a line."""
    patterns = (r"[^\n]*".join(map(re.escape, line.split("…"))) for line in seen)
    return re.search(r"(?s:.*)".join(f"(?m:^{pattern} *$)" for pattern in patterns), output) is not None


class Newcomer:
    """Two terminals: one for `webhooks dev`, one for the rest. Both have the environment's scripts on the PATH.

    env: what else the person has in the environment.
    """

    def __init__(self, processes: Processes, env: Mapping[str, str] | None = None) -> None:
        self.processes = processes
        self.directory = processes.directory
        self.port = free_port()
        self.env = {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", **(env or {})}
        self.dev: Process | None = None
        self.event_id = ""

    def follow(self, text: str) -> int:
        """Do what a page says, and see what it shows; how many commands were typed."""
        count = 0
        for step in steps(text):
            if step.path:
                path = self.directory / step.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step.text)
                continue
            count += 1
            self._type_and_see(step)
        return count

    def _type_and_see(self, step: Step) -> None:
        outputs = [self.type(step.text, step.status)]

        def look() -> bool:
            if is_shown(step.seen, outputs[-1]):
                return True
            assert LOOKS.match(step.text), f"{step.text}\nshould have shown\n{step.seen}\nand showed\n{outputs[-1]}"
            outputs.append(self.type(step.text, step.status))
            return False

        try:
            wait_until(look, what=f"{step.text} to show {step.seen}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it showed\n{outputs[-1]}") from None

    def type(self, command: str, status: int = 0) -> str:
        """What it wrote. Fails when it exits with another status."""
        if command == ". .venv/bin/activate":
            return ""
        if re.fullmatch(r"(?:flask --app \w+ )?webhooks dev", command):
            self.restart(command)
            return ""
        if match := re.fullmatch(r"export (\w+)=(.*)", command):
            echo = self.processes.run("sh", "-ec", f"echo {match[2]}", env=self.env, cwd=self.directory)
            self.env[match[1]] = echo.output.strip()
            return ""
        if match := re.fullmatch(r"cd (\S+)", command):
            self.directory = self.directory / match[1]
            return ""
        if command == STOP:
            assert self.dev is not None
            self.dev.stop()
            self.dev = None
            return ""
        process = self.processes.run("sh", "-ec", command, env=self.env, cwd=self.directory)
        assert process.wait() == status, f"{command}:\n{process.output}"
        if match := re.search(r"&& cd (\S+)$", command):
            self.directory = self.directory / match[1]
        if match := re.search(r'"event_id":"(\d+)"', process.output):
            self.event_id = match[1]
        return process.output

    def save(self, path: Path, text: str) -> None:
        """Write a module, and wait until the running `webhooks dev` has loaded it."""
        assert self.dev is not None
        before = self.dev.output.count(" reloaded ")
        path.write_text(text)
        self.dev.wait_for(rf"(?s)(?: reloaded .*?){{{before + 1}}}handlers: ")

    def restart(self, command: str = "webhooks dev") -> None:
        if self.dev is not None:
            self.dev.stop()
        self.dev = self.processes.start(*command.split(), env={**self.env, "PORT": str(self.port)}, cwd=self.directory)
        self.dev.wait_for("try: webhooks trigger")
