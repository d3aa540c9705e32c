from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.table import Table

from pipeline.command import report_error, show_warning
from pipeline.pages import render
from pipeline.terminal import print_labelled, say
from pipeline.tracking.journals import OperationJournal, read_lines
from pollinate.console import PlainConsole, styled
from pollinate.errors import PollinateError
from pollinate.printable import printable

NASTY = "a\x1b[2J\x9b1m[/b][red]x[/]\x07\u202ey:smile:\ud800"
SHOWN = r"a\x1b[2J\x9b1m[/b][red]x[/]\x07\u202ey:smile:\ud800"


def test_nothing_is_a_command() -> None:
    assert printable(NASTY) == SHOWN
    assert printable("größe\t中文\n😀") == "größe\t中文\n😀"


def printed(show: object) -> str:
    console = PlainConsole(file=(output := io.StringIO()), width=200)
    if callable(show):
        show(console)
    else:
        console.print(show)
    return output.getvalue().replace(" ", "")


@pytest.mark.parametrize("kind", ["text", "cell", "heading", "title", "rule", "styled", "labelled"])
def test_a_console_shows_texts_as_they_are(kind: str) -> None:
    table = Table(NASTY if kind == "heading" else "x", title=NASTY if kind == "title" else None)
    table.add_row(NASTY if kind == "cell" else "x")
    shows = {
        "text": lambda console: say(console, NASTY),
        "rule": lambda console: console.rule(NASTY),
        "styled": styled("b", (NASTY, "bold")),
        "labelled": lambda console: print_labelled(console, [("run folder", f"x/[2024]{NASTY}")]),
    }
    found = printed(shows.get(kind, table))
    assert SHOWN in found.replace("\n", "")
    assert ("[2024]" in found) == (kind == "labelled")


def test_errors_and_warnings_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(PollinateError(NASTY), 1, debug=False)
    show_warning(NASTY, UserWarning, "file.py", 1)
    assert capsys.readouterr().err == f"error: {SHOWN}\nwarning: {SHOWN}\n"


def test_pages_and_tags_hold_no_commands(tmp_path: Path) -> None:
    page = render("table.html") + render("base.html", title=NASTY, name=NASTY)
    page.encode()  # no half characters
    journal = OperationJournal(tmp_path / "operations.jsonl")
    journal.tags({"note": NASTY})
    journal.close()
    (record,) = [record for record, _ in read_lines(tmp_path / "operations.jsonl")]
    assert record["tags"] == {"note": SHOWN}
