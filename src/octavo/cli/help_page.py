"""`--help`: headings and two columns that stay readable at 80 characters."""

import textwrap
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from octavo.cli.terminal import stdout

_MOST_LEFT = 31
"""Names longer than this have their help on the next line."""
_INDENT = 2
_MOST_COLUMNS = 110
_LAST = "Options"
_HEADING = "bold"
_NAME = "cyan"
_METAVAR = "dim cyan"


class HelpfulCommand(TyperCommand):
    """A command with a help page of this kind."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        print_help(self, ctx)


class HelpfulGroup(TyperGroup):
    """A group of commands with a help page of this kind."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        print_help(self, ctx)


def print_help(command: Any, context: Any) -> None:
    """Usage, what the command does, its sub-commands and options under their headings, the epilog."""
    console = stdout()
    console.print(Text.assemble(("Usage: ", _HEADING), (command.get_usage(context).removeprefix("Usage:").strip(), "")))
    console.print()
    width = min(console.width, _MOST_COLUMNS)
    for paragraph in (command.help or "").split("\n\n"):
        console.print(Text(textwrap.fill(" ".join(paragraph.split()), width - 1)), soft_wrap=True)
        console.print()
    sections: dict[str, list[tuple[Text, str]]] = {}
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            child: Any = command.get_command(context, name)
            if not child.hidden:
                row = (Text(name, style=_NAME), _first_sentence(child.help or ""))
                sections.setdefault(child.rich_help_panel or "Commands", []).append(row)
    for parameter in command.get_params(context):
        if not parameter.hidden:
            row = (_name(parameter), _meaning(parameter))
            sections.setdefault(parameter.rich_help_panel or _LAST, []).append(row)
    names = [name.cell_len for rows in sections.values() for name, _ in rows]
    left_width = _INDENT + max((length for length in names if length <= _MOST_LEFT), default=0) + 2
    for title in sorted(sections, key=_rank):
        _print_section(console, title, sections[title], left_width, width)
    for line in (command.epilog or "").splitlines():
        console.print(Text(line), soft_wrap=True)


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].removesuffix(".") + "."


def _rank(title: str) -> int:
    """Sections stay in the order they were met, but the general options and what is not built come last."""
    return {_LAST: 1, "Not built yet": 2}.get(title, 0)


def _name(parameter: Any) -> Text:
    """«--max-num-seqs N», «--[no-]enable-prefix-caching», «PROMPT»."""
    if parameter.param_type_name == "argument":
        return Text(parameter.metavar or parameter.name.upper(), style=_NAME)
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        names = "--[no-]" + names.removeprefix("--")
    text = Text(names, style=_NAME)
    if parameter.metavar and not parameter.is_flag:
        text.append(f" {parameter.metavar}", style=_METAVAR)
    return text


def _meaning(parameter: Any) -> str:
    """The parameter's help, with its default where that is a number or text."""
    default = parameter.default
    if isinstance(default, bool) or not isinstance(default, (int, float, str)):
        return str(parameter.help or "")
    return f"{parameter.help} [default: {default}]"


def _print_section(console: Console, title: str, rows: Iterable[tuple[Text, str]], left_width: int, width: int) -> None:
    console.print(Text(title, style=_HEADING))
    for name, text in rows:
        lines = textwrap.wrap(" ".join(text.split()), max(20, width - left_width - 1)) or [""]
        left = Text(" " * _INDENT) + name
        if name.cell_len > _MOST_LEFT:
            console.print(left, soft_wrap=True)
            left = Text(" " * left_width)
        left.pad_right(max(0, left_width - left.cell_len))
        console.print(left + Text(lines[0]), soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(" " * left_width + line), soft_wrap=True)
    console.print()
