"""Every command in README and docs is one that works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.configuration.composition import compose
from pipeline.configuration.groups import SHIPPED, options
from pipeline.configuration.schema import SCHEMAS
from pollinate.requirements import check_run_folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
USERS = ("mine.yaml", "shop.yaml")  # data files of a user's own
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")


def commands() -> Iterator[tuple[str, str]]:
    """Yield (page, command line) of every ``-m pipeline.NAME`` in a bash block."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                if "-m pipeline." in line:
                    yield page.name, line


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_a_command_composes(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("tests", "benchmarks", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for file in USERS:
        (tmp_path / file).symlink_to(ROOT / "tests/data/tasks.yaml")
    words = shlex.split(line.partition(" #")[0])
    name = words[words.index("-m") + 1].removeprefix("pipeline.")
    assert name in SCHEMAS
    overrides = [word for word in words[words.index("-m") + 2 :] if "=" in word and "$" not in word]
    config = compose(name, overrides)
    if name == "fit":
        check_run_folder(config | {"run_dir": None})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readme_names_the_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert f"\n{target}:" in makefile


def test_the_method_shown_in_contributing_is_the_real_one() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    method, row = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    source = (ROOT / "lightning_modules/balancers/uncertainty.py").read_text(encoding="utf-8")
    shown = [line for line in method.splitlines() if line.strip() and "..." not in line]
    assert all(line in source for line in shown)
    assert row in (ROOT / "tests/rows/balancers.py").read_text(encoding="utf-8")
    (options,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert options == (ROOT / "configs/balancer/uncertainty.yaml").read_text(encoding="utf-8")


def test_the_data_file_shown_is_one_that_trains() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    _, _, file = (ROOT / "tests/data/tasks.yaml").read_text(encoding="utf-8").partition("\n")
    assert shown == file


def test_the_data_page_names_every_source_task_and_augmentation() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    for group in ("source", "task", "augment"):
        for file in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"`{file.stem}`" in page or file.stem == "quickstart", file


def batches(count: int = 60) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What the README's loop trains on."""
    draws = torch.Generator().manual_seed(0)
    for _ in range(count):
        rows = torch.randn(32, 8, generator=draws)
        yield rows, rows[:, :3].argmax(dim=1), rows[:, 3:4]


@pytest.mark.parametrize("sign", ["-", "+"])
def test_the_loop_of_the_readme_trains_before_and_after_the_change(sign: str) -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = diff.splitlines()
    assert sum(line.startswith("+") for line in lines) == 3
    code = "\n".join(line[1:] for line in lines if line[:1] in ("", " ", sign))
    values: dict[str, Any] = {"batches": batches()}
    torch.manual_seed(0)
    exec(code, values)  # the project's own README
    assert {task: loss.item() < 0.9 for task, loss in values["losses"].items()} == {
        "kind": True,
        "size": True,
    }


def test_every_trunk_and_fusion_is_explained() -> None:
    page = (ROOT / "docs" / "sharing.md").read_text()
    known = options("trunk", [SHIPPED])
    missing = [n for n in (*known, *options("fusion", [SHIPPED])) if f"`{n}`" not in page]
    assert missing == []
    assert f"{len(known)} ways" in (ROOT / "README.md").read_text()


def test_every_balancer_is_explained() -> None:
    page = (ROOT / "docs" / "balancing.md").read_text()
    known = options("balancer", [SHIPPED])
    assert [name for name in known if f"`{name}`" not in page] == []
    assert f"{len(known)} ways" in (ROOT / "README.md").read_text()


def test_every_merging_method_is_explained() -> None:
    page = (ROOT / "docs" / "merging.md").read_text()
    assert [name for name in options("method", [SHIPPED]) if f"`{name}`" not in page] == []


def test_every_pretrained_option_is_explained() -> None:
    page = (ROOT / "docs" / "encoders.md").read_text()
    assert [name for name in options("tune", [SHIPPED]) if f"`{name}`" not in page] == []
    for name in (
        "text=minilm",
        "text=transformers",
        "audio=transformers",
        "image=timm",
        "image=efficientnet_lite0",
    ):
        assert f"`encoder/{name}" in page
