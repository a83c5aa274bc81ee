"""`webhooks doctor`: what is wrong, and which command repairs it. Exit code 1 when an error is among it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from webhooks.cli import output, typed
from webhooks.cli.context import actor, json_option, read_settings, webhooks
from webhooks.errors import ConfigurationError, RegistrationError
from webhooks.formats import printable
from webhooks.operations import records

if TYPE_CHECKING:
    from webhooks.operations import Finding

_COLOURS = {"error": "red", "warning": "yellow", "note": "bright_black"}


@click.command(epilog="Example: webhooks doctor --fix")
@click.option(
    "--fix", is_flag=True, help="Do what is safe: resume what was not paused by hand, subscribe, fetch keys, catch up."
)
@click.option("--strict", is_flag=True, help="Exit with 1 on warnings as well.")
@json_option
def doctor(fix: bool, strict: bool, as_json: bool) -> None:
    """Look for what is wrong, and name the command that repairs it. Exit code 1 when events are lost, refused or not run.

    Without an API key the sender is not asked; what could not be checked is said.
    """
    from webhooks.cli.catch_up import holder
    from webhooks.operations import Finding, Level, diagnose

    done: list[str] = []
    try:
        instance = webhooks()
    except (ConfigurationError, RegistrationError) as error:
        problems = error.problems if isinstance(error, ConfigurationError) else [str(error)]
        command = first_key_command()
        findings: Sequence[Finding] = [
            Finding(Level.ERROR, "settings", "settings", f"nothing can start: {problem}", command)
            for problem in problems
        ]
    else:
        examiner = instance.make_doctor(holder())
        facts = examiner.collect()
        findings = diagnose(facts)
        if fix:
            done = examiner.repair(facts, findings, actor=actor())
            findings = diagnose(examiner.collect()) if done else findings
    if as_json:
        output.emit_json({"findings": [records.finding_json(finding, typed) for finding in findings], "repaired": done})
    else:
        tell(findings, done)
    wrong = (Level.ERROR, Level.WARNING) if strict else (Level.ERROR,)
    if any(finding.level in wrong for finding in findings):
        raise SystemExit(1)


def first_key_command() -> str | None:
    """What makes the first key of a source whose secret_file does not exist yet; None when that is not the trouble."""
    try:
        sections = read_settings().sources.values()
    except ConfigurationError:
        return None
    waits = any(
        section.scheme == "close" and section.secret_file is not None and not section.secret_file.exists()
        for section in sections
    )
    return "webhooks subscriptions create" if waits else None


def tell(findings: Sequence[Finding], done: Sequence[str]) -> None:
    """Findings for people: level, sentence, and the command on a line of its own."""
    for sentence in done:
        output.print_note(f"repaired: {sentence}")
    for finding in findings:
        level = output.colour(str(finding.level), fg=_COLOURS[str(finding.level)])
        click.echo(f"{level}: {printable(finding.text)}")
        if finding.command is not None:
            safe = "   (webhooks doctor --fix does it)" if finding.fix else ""
            click.echo(f"  -> {printable(typed(finding.command))}{safe}")
    wrong = sum(str(finding.level) != "note" for finding in findings)
    output.print_note("nothing is wrong" if not wrong else f"{output.counted(wrong, 'thing')} to repair")
