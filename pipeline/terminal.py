"""What all commands print alike."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from pollinate.console import styled
from pollinate.printable import printable


def say(console: Console, text: str) -> None:
    """Print text as it is: names in it are neither coloured nor broken into lines."""
    console.print(printable(text), highlight=False, soft_wrap=True, markup=False, emoji=False)


def new_table(*headings: str, numbers: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings):
        right = place >= len(headings) - numbers
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    return table


def print_labelled(console: Console, lines: Iterable[tuple[str, object]]) -> None:
    """Print what can be looked at or done next: a label in bold, and a path or a command."""
    for label, text in lines:
        line = styled((f"{label:<11}", "bold"), str(text))
        console.print(line, highlight=False, soft_wrap=True)
