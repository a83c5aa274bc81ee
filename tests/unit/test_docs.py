"""Documentation says what there is: settings, commands, signals, floors, links, and commands in examples.

Tables that can be made from the code are made from it: `.venv/bin/python -m tests.unit.test_docs` writes them anew.
Elsewhere: sentences about commands and JSON (`test_command_docs`), promises (`test_guarantees`), plugins
(`tests/unit/handlers/test_plugin_docs`), the local Close (`test_sandbox_docs`).
"""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from deploy.prometheus.rules import RULES
from tests.support import ROOT, each
from webhooks import signals
from webhooks.cli import group
from webhooks.cli.replay import start as replay_start
from webhooks.formats import span
from webhooks.http.metrics import METRICS
from webhooks.operations.alarms import ALARMS
from webhooks.settings import FALLBACKS, SETTINGS, TARGET_KEYS

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
#: Every text that a reader comes upon; the names of tests' parameters are paths from the checkout.
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
TEXTS = [*TOP, ROOT / "tests" / "README.md", *PAGES]
every_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))

REFRESH = "the code says something else; run: .venv/bin/python -m tests.unit.test_docs"


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


# -- tables made from the code ---------------------------------------------------------------------------------


def table(head: str, rows: Iterator[str]) -> str:
    return "\n".join([head, re.sub(r"[^|]+", " --- ", head), *rows])


def signal_table() -> str:
    def rows() -> Iterator[str]:
        for row in signals.TABLE.values():
            given = "<br>".join(f"`{name}`: {text}" for name, text in row.arguments.items())
            yield f"| `{row.name}` | {row.text} | {row.sender} | {given} |"

    return table("| signal | when | sender | arguments |", rows())


def setting_table() -> str:
    def rows() -> Iterator[str]:
        for setting in SETTINGS:
            default = f"`{setting.default.strip(chr(34))}`" if setting.default else ""
            yield f"| `{setting.name}` | `{setting.variable}` | {default} | {setting.text} |"

    return table("| setting | environment | default | what it says |", rows())


def metric_table() -> str:
    def rows() -> Iterator[str]:
        for metric in METRICS:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            bounds = f" Up to {', '.join(f'{bound:g}' for bound in metric.buckets)}." if metric.buckets else ""
            yield f"| `{metric.name}` | {metric.kind} | {labels} | `{metric.place}` | {metric.text}{bounds} |"

    return table("| metric | kind | labels | at | what it says |", rows())


def alarm_table() -> str:
    rows = (f"| {rule.summary} | {rule.severity} | `{rule.command}` |" for rule in RULES)
    plain = (re.sub(r"\{\{ \$(?:labels\.)?(\w+)(?: \| \w+)? \}\}", lambda match: f"*{match[1]}*", row) for row in rows)
    return table("| alarm | severity | what to type |", iter(plain))


def commands() -> Iterator[tuple[click.Context, list[click.Parameter]]]:
    """Every command that can be typed, and its parameters. Those of `replay EVENT…` are a hidden command's."""

    def walk(command: click.Command, context: click.Context) -> Iterator[tuple[click.Context, list[click.Parameter]]]:
        params = command.get_params(context)
        if context.command_path == "webhooks replay":
            yield context, [*replay_start.params, *params]
        elif not isinstance(command, click.Group) or command.invoke_without_command or context.parent is None:
            yield context, params
        if isinstance(command, click.Group):
            for name in sorted(command.list_commands(context)):
                found = command.get_command(context, name)
                assert found is not None
                yield from walk(found, click.Context(found, info_name=name, parent=context))

    yield from walk(group, click.Context(group, info_name="webhooks", max_content_width=1000, terminal_width=1000))


def command_reference() -> str:
    """docs/commands.md below its introduction: each command's help, with a table of its options."""

    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("*", "\\*").replace("<", "\\<")

    parts = []
    for context, params in commands():
        usage = " ".join(context.command.get_usage(context).split()).removeprefix("Usage: ")
        help_text = inspect.cleandoc(context.command.help or "").replace("\b\n", "")
        rows = []
        for param in params:
            record = param.get_help_record(context) if isinstance(param, click.Option) else None
            if record is not None and "--help" not in param.opts:
                option, does = (" ".join(each.split()) for each in record)
                rows.append(f"| `{option.replace('|', chr(92) + '|')}` | {cell(does)} |")
        parts += [f"## {context.command_path}", "", help_text, "", "```", usage, "```", ""]
        if rows:
            parts += [table("| option | does |", iter(rows)), ""]
        if context.command.epilog:
            parts += [context.command.epilog.replace("Example: ", "Example: `", 1) + "`", ""]
    return "\n".join(parts).rstrip()


def product_alarm_table() -> str:
    """The table of docs/alarms.md."""
    rows = (
        f"| `{each.name}` | {each.severity.word} | {each.about or 'installation'} | {each.condition} | "
        f"{span(each.lasting) if each.lasting else 'at once'} | `{each.command}` |"
        for each in ALARMS.values()
    )
    return table("| alarm | severity | of each | when | for | type |", rows)


#: {module: its public names}, in the order of docs/api.md. None: those of its `__all__`.
PUBLIC: dict[str, tuple[str, ...] | None] = {
    "webhooks": None,
    "webhooks.testing": ("Kit", "make_kit", "Posted", "Run", "Filtered", "NothingScheduled", "StillBusy"),
    "webhooks.signals": ("observe", "connect", "all_signals"),
    "webhooks.selection": ("Selection",),
    "webhooks.operations": (
        "Actor", "Via", "Replayer", "Options", "Order", "Plan", "Progress", "Requeuer", "Requeued", "Canceller", "ReplayError",
        "WrongState",
    ),
    "webhooks.sources": ("Source", "SourceSettings", "Secret"),
    "webhooks.sandbox": ("World", "Rules", "create_app", "serve", "run"),
    "webhooks.contrib.alembic": ("ours", "not_ours"),
    "webhooks.contrib.celery": ("hand_over", "attach"),
    "webhooks.contrib.sentry": ("connect", "disconnect"),
}  # fmt: skip


def api_reference() -> str:
    """docs/api.md below its introduction: each public name with the first paragraph of its docstring."""
    parts = []
    for name, public in PUBLIC.items():
        module = importlib.import_module(name)
        names = [each for each in public or module.__all__ if not each.startswith("_")]
        texts = [inspect.getdoc(getattr(module, each)) or "" for each in names]
        said = [" ".join(text.partition("\n\n")[0].split()).replace("|", "\\|") for text in texts]
        assert all(said), f"{name}: every public name has a docstring"
        rows = (f"| `{each}` | {text} |" for each, text in zip(names, said, strict=True))
        first_line = inspect.cleandoc(module.__doc__ or "").partition("\n")[0]
        parts += [f"## `{name}`", "", first_line, "", table("| name | is |", rows), ""]
    return "\n".join(parts).rstrip()


#: {page: what of it is made from the code}: from the line that begins so, to the next empty line or the end.
MADE = {
    "docs/signals.md": ("| signal |", signal_table),
    "docs/settings.md": ("| setting |", setting_table),
    "docs/metrics.md": ("| metric |", metric_table),
    "docs/observability.md": ("| alarm |", alarm_table),
    "docs/commands.md": ("## webhooks\n", command_reference),
    "docs/alarms.md": ("| alarm |", product_alarm_table),
    "docs/api.md": ("## `webhooks`\n", api_reference),
}


def refreshed(name: str) -> str:
    """The page as it should be."""
    text = read(name)
    head, make = MADE[name]
    before, found, after = text.partition(f"\n{head}")
    if not found:
        return f"{text.rstrip()}\n\n{make()}\n"
    rest = after.partition("\n\n")[2] if head.startswith("|") else ""
    return f"{before}\n{make()}\n" + (f"\n{rest}" if rest else "")


@pytest.mark.parametrize("name", MADE)
def test_a_table_says_what_the_code_says(name: str) -> None:
    assert read(name) == refreshed(name), f"{name}: {REFRESH}"


@each("setting", SETTINGS)
def test_every_setting_is_documented_with_its_variable_and_default(setting: object) -> None:
    name, variable, default, text = (getattr(setting, each) for each in ("name", "variable", "default", "text"))
    (row,) = [line for line in read("docs/settings.md").splitlines() if line.startswith(f"| `{name}` |")]
    assert f"`{variable}`" in row
    assert default.strip('"') in row
    assert text in row
    assert name not in FALLBACKS or f"falls back to {FALLBACKS[name]}" in row


def test_every_key_of_an_alarms_target_is_documented() -> None:
    told = {
        name
        for row in re.findall(r"^\| (`.*?) \|", read("docs/alarms.md"), re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert TARGET_KEYS.keys() <= told


@each("name", signals.TABLE)
def test_every_signal_is_documented_with_its_arguments(name: str) -> None:
    (row,) = [line for line in read("docs/signals.md").splitlines() if line.startswith(f"| `{name}` |")]
    assert [each for each in signals.TABLE[name].arguments if f"`{each}`:" not in row] == []


def test_every_metric_is_documented_and_every_documented_one_is_there() -> None:
    told = re.findall(r"^\| `(webhooks_\w+)` \|", read("docs/metrics.md"), re.MULTILINE)
    assert sorted(told) == sorted(metric.name for metric in METRICS)


def test_every_option_of_every_command_is_documented() -> None:
    sections = dict(re.findall(r"^## (webhooks.*)\n((?:(?!## ).*\n)*)", read("docs/commands.md") + "\n", re.MULTILINE))
    missing = [
        f"{context.command_path} {option}"
        for context, params in commands()
        for param in params
        if isinstance(param, click.Option) and not param.hidden and "--help" not in param.opts
        for option in (*param.opts, *param.secondary_opts)
        if option not in sections[context.command_path]
    ]
    assert missing == []


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{context.command_path} {param.opts[0]}"
        for context, params in commands()
        for param in params
        if isinstance(param, click.Option) and not param.hidden and not (param.help or "").strip()
    ]
    assert silent == []


# -- links and examples ----------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> Iterator[str]:
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(there.read_text("utf-8")):
            yield f"{target}: no such heading"


@every_text
def test_every_link_leads_somewhere(path: Path) -> None:
    assert list(broken_links(path, path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[x](docs/nowhere.md)", ["docs/nowhere.md: no such file"]),
        ("[x](docs/handlers.md#nothing)", ["docs/handlers.md#nothing: no such heading"]),
        ("[x](#nothing)", ["#nothing: no such heading"]),
        ("[x](docs/handlers.md#time-outs-and-isolation) [y](https://example.com)\n```\n[z](nowhere)\n```", []),
    ],
)
def test_a_broken_link_is_found(text: str, found: list[str]) -> None:
    assert list(broken_links(ROOT / "README.md", text)) == found


@every_text
def test_every_page_is_reached_from_the_first(path: Path) -> None:
    linked: set[Path] = set()
    queue = [ROOT / "README.md", DOCS / "README.md"]
    while queue:
        page = queue.pop()
        if page in linked or not page.exists():
            continue
        linked.add(page)
        targets = re.findall(r"\]\(([^)#:\s]+\.md)", page.read_text("utf-8"))
        queue += [(page.parent / target).resolve() for target in targets]
    assert path in linked or path.parent.name == "tests", (
        f"{path.name} is linked from no page; add it to docs/README.md"
    )


#: Words that stand for something in an example.
_SHELL = re.compile(r"\s(?:#|\||&&|;|>|2>).*")


def examples(text: str) -> Iterator[list[str]]:
    """The words of every `webhooks …` that a reader is told to type: in console blocks, and in code in the prose."""
    typed = re.findall(r"^(?:\$ )(.+)$", text, re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    typed += [span.replace("\n", " ") for span in re.findall(r"`(webhooks [^`]+)`", prose)]
    for line in typed:
        for part in re.split(r" (?:&&|;|\|) ", re.sub(r"\s+# .*", "", line)):
            match = re.match(r"(?:\.venv/bin/)?webhooks (.+)", part.strip())
            if match is not None and "…" not in match[1].split()[0]:
                yield shlex.split(match[1].replace("…", ""))


def complaint(words: list[str]) -> str | None:
    """What is wrong with the command: it, or one of its options, does not exist."""
    command: click.Command = group
    context = click.Context(group, info_name="webhooks")
    rest = list(words)
    while rest and isinstance(command, click.Group) and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            if command.name in ("replay",):
                break
            return f"webhooks {' '.join(words)}: there is no {rest[0]!r}"
        command, context = found, click.Context(found, info_name=rest.pop(0), parent=context)
    params = replay_start.params if context.command_path == "webhooks replay" else command.get_params(context)
    known = {option for param in params for option in (*param.opts, *param.secondary_opts)} | {"-h", "--help"}
    for word in rest:
        if word == "--":
            break
        if word.startswith("-") and word.partition("=")[0] not in known:
            return f"webhooks {' '.join(words)}: there is no {word}"
    return None


@every_text
def test_every_command_in_an_example_exists(path: Path) -> None:
    found = [said for words in examples(path.read_text("utf-8")) if (said := complaint(words)) is not None]
    assert found == []


def test_examples_are_found_and_judged() -> None:
    text = "```console\n$ webhooks init shop && cd shop\n$ .venv/bin/webhooks dev --dmeo   # no\n```\n`webhooks evnts`"
    assert list(examples(text)) == [["init", "shop"], ["dev", "--dmeo"], ["evnts"]]
    assert [complaint(words) for words in examples(text)] == [
        None,
        "webhooks dev --dmeo: there is no --dmeo",
        "webhooks evnts: there is no 'evnts'",
    ]
    assert complaint(["replay", "ev_1", "--dry-run"]) is None
    assert complaint(["replay", "list", "--dry-run"]) == "webhooks replay list --dry-run: there is no --dry-run"


@every_text
def test_settings_in_an_example_exist(path: Path) -> None:
    known = {setting.variable for setting in SETTINGS} | {f"{setting.variable}_FILE" for setting in SETTINGS}
    known.add("WEBHOOKS_SOURCES")  # the sections of all sources, in an application's config
    named = set(re.findall(r"\bWEBHOOKS_[A-Z_]*[A-Z]\b(?!_?[_…*])", path.read_text("utf-8")))
    assert {name for name in named if not name.startswith("WEBHOOKS_TEST")} <= known


# -- plain words ------------------------------------------------------------------------------------------------

#: {a word that is not written: what is}. In docs, help texts, messages, docstrings and comments.
OLD_WORDS = {
    r"eldest": "oldest",
    r"elders?": "older",
    r"younger": "newer",
    r"youngest": "newest",
    r"whoever": "the thing that does it: the process, the caller, another client",
    r"nobody": "no process, no client, nothing",
    r"somebody": "another program, the operator, the author",
    r"anybody": "anyone, for people; any process, any client",
    r"everybody": "all, others",
    r"at the least": "at least",
    r"(?:not|n't) to be had": "unavailable",
    r"good right": "allowed",
    r"in (?:its|their) hands": "holds",
    r"[Tt](?:ake|akes|aken|aking|ook) in": "accept, for requests and events; keep, for what a handler writes down",
    r"(?:go|goes|gone|going|went) on with": "continue",
}
#: Comments of columns are in the databases that are in use; the words of these change with the next change of their tables.
COLUMN_COMMENTS = "webhooks/database/tables.py"


#: Each of them as it is searched for, with a capital letter too; and all together.
_OLD_WORD = {word: re.compile(rf"\b(?:{word}|{word[0].upper()}{word[1:]})\b") for word in OLD_WORDS}
_ANY_OLD_WORD = re.compile("|".join(pattern.pattern for pattern in _OLD_WORD.values()))


def old_words(text: str) -> Iterator[str]:
    """`line 5: write oldest, not eldest`, for each in a text. Names in code (`NOBODY`, `an_elder`) are left alone."""
    for number, line in enumerate(text.splitlines(), 1):
        if _ANY_OLD_WORD.search(line) is None:
            continue
        for word, plain in OLD_WORDS.items():
            if found := _OLD_WORD[word].search(line):
                yield f"line {number}: write {plain}, not {found[0]}"


def test_texts_are_in_plain_words() -> None:
    paths = [
        *TEXTS,
        *(path for part in ("webhooks", "handlers", "benchmarks") for path in sorted((ROOT / part).rglob("*.py"))),
    ]
    found = []
    for path in paths:
        name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        if name == COLUMN_COMMENTS:
            text = re.sub(r'comment="[^"]*"', "", text)
        found += [f"{name}, {said}" for said in old_words(text)]
    assert found == []


def test_an_old_word_is_found() -> None:
    assert list(old_words("a\nThe eldest first.")) == ["line 2: write oldest, not eldest"]
    assert list(old_words("Nobody knows")) == ["line 1: write no process, no client, nothing, not Nobody"]
    assert list(old_words("NOBODY, `test_an_elder_that_comes`, the oldest")) == []


if __name__ == "__main__":
    for page in MADE:
        (ROOT / page).write_text(refreshed(page), "utf-8")
