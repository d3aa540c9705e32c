"""Pages of HTML that need nothing else: no network, no scripts."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pollinate.printable import printable

CODE = re.compile(r"`([^`]*)`")


def render(template: str, **values: Any) -> str:
    """Return a page; values are escaped, but for those that are ``Markup``; see ``printable``."""
    return printable(_templates().get_template(template).render(values))


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["code"] = with_code
    return found


def with_code(text: str) -> Markup:
    """Return a sentence as HTML, names in backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", str(escape(text))))
