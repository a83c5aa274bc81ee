"""Lines of JSON as HTML: brackets fold by `<details>`, without JavaScript; keys are links that pick their line.

Everything that a sender wrote passes `escape`; what a class or an address holds is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from webhooks.dashboard.payload.scan import Line, Tree
from webhooks.formats import counted, printable

#: Longer strings are cut where they are not picked.
LONGEST_STRING = 2_000
#: Deeper lines are not indented further.
DEEPEST_INDENT = 8


@dataclass(frozen=True, slots=True)
class Drawing:
    """How a tree is drawn.

    address: of this page, to which the number of a line is added.
    picked: the number of the line that was picked.
    tools: what stands below that line.
    before: {path: the value that was there before, as written}.
    has_before: whether a line that is not in it is new.
    hides_values: only keys and types are shown.
    """

    address: str
    picked: int | None = None
    tools: Markup | None = None
    before: Mapping[tuple[str | int, ...], str] = field(default_factory=dict)
    has_before: bool = False
    hides_values: bool = False


def draw(tree: Tree, how: Drawing) -> Markup:
    """The whole tree."""
    parts: list[str] = []
    open_ones = 0
    for line in tree.lines:
        if line.closes:
            parts.append(f"{_row(line, _punctuation(line))}</details>")
            open_ones -= 1
        elif line.opens:
            noun = "key" if line.text == "{" else "value"
            closing = "}" if line.text == "{" else "]"
            inside = counted(line.children, noun) if line.children >= 0 else "…"
            folded = f'<span class="c p"> {inside} {closing}{"," if line.has_comma else ""}</span>'
            body = f'{_key(line, how)}<span class="p">{line.text}</span>{folded}'
            parts.append(f"<details open><summary>{_row(line, body)}</summary>")
            open_ones += 1
        else:
            parts.append(_value_row(line, how))
    parts.append("</details>" * open_ones)
    return Markup("".join(parts))  # each part is made of escaped texts


def _value_row(line: Line, how: Drawing) -> str:
    is_picked = how.picked == line.number
    old = how.before.get(line.path)
    is_changed = how.has_before and old != line.text
    classes = (" was" if is_changed else "") + (" on" if is_picked else "")
    body = _key(line, how) + _value(line.text, how, is_picked=is_picked) + _punctuation(line, only_comma=True)
    if is_changed and not how.hides_values:
        was = (
            "new"
            if old is None
            else f'<span class="vh">before: </span><span class="old">{escape(printable(old, 300))}</span>'
        )
        body += f' <span class="p">{was}</span>'
    if is_picked:
        body += f'<span class="path">{how.tools or ""}</span>'
    return _row(line, body, classes)


def _row(line: Line, body: str, classes: str = "") -> str:
    return f'<span class="r i{min(line.depth, DEEPEST_INDENT)}{classes}" id="n{line.number}">{body}</span>'


def _key(line: Line, how: Drawing) -> str:
    if line.key is None:
        return ""
    key = escape(printable(line.key, LONGEST_STRING))
    if line.opens:
        return f'<span class="k">{key}</span><span class="p">: </span>'
    return (
        f'<a class="k" href="{escape(how.address)}at={line.number}#n{line.number}">{key}</a><span class="p">: </span>'
    )


def _value(text: str, how: Drawing, *, is_picked: bool) -> str:
    kind = "s" if text.startswith('"') else "p" if text[0] in "{[" else "b" if text[0] in "tfn" else "n"
    if how.hides_values and kind != "p":
        word = {"s": "text", "n": "number", "b": "null" if text == "null" else "true or false"}[kind]
        return f'<span class="p">{word}</span>'
    if len(text) > LONGEST_STRING and not is_picked:
        more = f"{len(text):,} characters; pick its key to see all"
        return f'<span class="{kind}"><bdi>{escape(printable(text[:LONGEST_STRING]))}</bdi></span><span class="p">… {more}</span>'
    return f'<span class="{kind}"><bdi>{escape(printable(text, 1_000_000))}</bdi></span>'


def _punctuation(line: Line, *, only_comma: bool = False) -> str:
    text = ("" if only_comma else line.text) + ("," if line.has_comma else "")
    return f'<span class="p">{text}</span>' if text else ""


__all__ = ["DEEPEST_INDENT", "LONGEST_STRING", "Drawing", "draw"]
