"""MkDocs hook: the pages that are made from code and notebooks, so that they can't fall behind.

``mkdocs.yml`` names this file. A list in its ``nav`` that holds only a folder's name, such as
``[reference/api]``, is replaced by the pages of that folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from pipeline.configuration.groups import NAMED_IN_DATA, SHIPPED, find_option, groups, options
from pipeline.configuration.help import commands, leading_comment
from pollinate.namespaces import FAMILIES, ROOT

TARGET = re.compile(r"^_target_: (?P<target>[\w.]+)$", re.MULTILINE)
NOTEBOOKS = Path(__file__).with_name("notebooks")
VALUES = ("__version__",)  # names of the public API that have no docstring
# what tests/test_examples.py gives to examples
GIVEN = re.compile(r">>> .*(\((data|trainer)\b|trainer\.|runs/(first|study)|shop\.yaml|_model\")")
ABOUT_EXAMPLES = (
    "The examples run in a folder with `reviews.csv`, whose columns are `review`, `mood`, `stars` "
    "and `split`, `shop.yaml`, a data file that describes it, `runs/first`, a run of it, "
    "`runs/study`, a study of it, and three small models of transformers, `text_model`, "
    "`audio_model` and `decoder_model`. `data` is a "
    "[data module][datamodules.mixed_datamodule.MixedDataModule] of the "
    "reviews, and `trainer` a Trainer of Lightning for two steps."
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation's folders."""
    made = dict(pages())
    config.nav = _filled(config.nav, list(made))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that lie in ``docs``."""
    for uri, text in pages():
        files.append(File.generated(config, uri, content=text))
    return files


def pages() -> Iterator[tuple[str, str]]:
    """Yield (path below docs, Markdown)."""
    yield "reference/commands.md", commands_page()
    for group in groups([SHIPPED]):
        yield f"reference/options/{group.replace('/', '_')}.md", group_page(group)
    yield "reference/api/po.md", api_page(ROOT)
    for name in FAMILIES:
        yield f"reference/api/{name}.md", api_page(f"{ROOT}.{name}")
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        yield f"notebooks/{path.stem}.md", notebook_page(path)


def commands_page() -> str:
    """Return every command with its keys, as its YAML file has them."""
    parts = [
        "# Commands",
        "`pollinate NAME --help` prints the same. Keys marked `???` must be given. "
        "`pollinate NAME` and `python -m pipeline.NAME` are equal.",
    ]
    for name, summary in commands().items():
        text = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
        parts += [f"## pollinate {name}", summary, _yaml(text)]
    return "\n\n".join(parts) + "\n"


def group_page(group: str) -> str:
    """Return every option of a group with its keys and their defaults."""
    names = options(group, [SHIPPED])
    key = NAMED_IN_DATA.get(group, group)
    parts = [f"# {group}", f"Choose one with `{key}=NAME`. The values shown are the defaults."]
    for name in names:
        text = _option(group, name)
        parts += [f"## {name}", leading_comment(text), _yaml(text)]
    return "\n\n".join(parts) + "\n"


def api_page(namespace: str) -> str:
    """Return the page of a module of the public API: its names, then their docstrings.

    Raises:
        AttributeError, ImportError: a name can't be loaded.
    """
    module = import_module(namespace)
    chosen = _options_by_target()
    rows, blocks, given = [], [], False
    for name in module.__all__:
        if namespace == ROOT and name in (*FAMILIES, *VALUES):
            continue  # a namespace has its own page
        public = getattr(module, name)
        path = f"{public.__module__}.{public.__qualname__}"
        docstring = (public.__doc__ or "").strip()
        first = docstring.partition("\n")[0]
        given |= GIVEN.search(docstring) is not None
        option = ", ".join(f"`{key}`" for key in chosen.get(f"{namespace}.{name}", []))
        rows.append(f"| [`{name}`][{path}] | {_cell(first)} | {option} |")
        blocks.append(f"::: {path}")
    title = namespace.replace(ROOT, "po", 1)
    last = "" if namespace == ROOT else "in a configuration"
    head = f"| name | what it is | {last} |\n|---|---|---|\n"
    about = (module.__doc__ or "").strip()
    if given:
        about += f"\n\n{ABOUT_EXAMPLES}"
    return "\n\n".join([f"# {title}", about, head + "\n".join(rows), *blocks]) + "\n"


def notebook_page(path: Path) -> str:
    """Return a notebook with its stored outputs."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts += (
            [text] if cell["cell_type"] == "markdown" else ["\n".join(["```python", text, "```"])]
        )
        parts += [_output(one) for one in cell.get("outputs", [])]
    parts.append(f"[Download the notebook]({path.name}), to run it yourself.")
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    """Return a picture, a table, or text."""
    data = output.get("data", {})
    if "image/png" in data:
        content = "".join(data["image/png"].split())
        return f'<img alt="What the cell draws" src="data:image/png;base64,{content}">'
    if "text/html" in data:
        table = re.search(r"<table.*</table>", "".join(data["text/html"]), re.DOTALL)
        assert table is not None, "only tables are HTML"
        return re.sub(r"<table[^>]*>", "<table>", re.sub(r"\n\s*", "", table[0]))
    text = "".join(output.get("text", data.get("text/plain", "")))
    return "\n".join(["```text", text.rstrip(), "```"])


def _options_by_target() -> dict[str, list[str]]:
    """Return {public name of a class: the options that build it, such as balancer=upgrad}."""
    found: dict[str, list[str]] = {}
    for group in groups([SHIPPED]):
        for name in options(group, [SHIPPED]):
            match = TARGET.search(_option(group, name))
            if match:
                found.setdefault(match["target"], []).append(f"{group}={name}")
    return found


def _option(group: str, name: str) -> str:
    """Return the text of an option's YAML file."""
    file = find_option(group, name, [SHIPPED])
    assert file is not None
    return file.read_text(encoding="utf-8")


def _yaml(text: str) -> str:
    """Return a YAML file as a block, without the comment that it begins with."""
    lines = text.splitlines()
    kept = lines[1:] if lines and lines[0].startswith("#") else lines
    return "\n".join(["```yaml", *kept, "```"])


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _filled(nav: Any, made: list[str]) -> Any:
    """Replace each ``[folder]`` of a navigation by the pages made for that folder."""
    if isinstance(nav, dict):
        return {title: _filled(part, made) for title, part in nav.items()}
    if not isinstance(nav, list):
        return nav
    if len(nav) == 1 and isinstance(nav[0], str) and not nav[0].endswith(".md"):
        return [uri for uri in made if uri.startswith(f"{nav[0]}/")]
    return [_filled(part, made) for part in nav]
