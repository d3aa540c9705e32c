"""A whole page, and tables in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")

# names and messages come from strangers: even if one got through, nothing would run or be loaded
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


def document(title: str, style: str, parts: Iterable[str]) -> str:
    """Return a page.

    Args:
        title: of the window.
        style: CSS besides that of all pages.
        parts: HTML of the body.
    """
    head = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>",
    ]
    return "\n".join([*head, *parts, "</body></html>\n"])


def table_html(headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """Return a table whose last columns hold numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        first = len(row) - numbers
        return "".join(
            f"<{tag}{' class=n' if place >= first else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', headings)}</tr>{body}</table>"
