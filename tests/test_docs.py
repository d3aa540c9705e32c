"""Every command in README and docs is one that works."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from pipeline.configuration.composition import compose
from pipeline.configuration.groups import SHIPPED, options
from pipeline.configuration.schema import SCHEMAS
from pollinate.namespaces import FAMILIES
from pollinate.requirements import check_run_folder
from tests.lean_fit import fit, lean_runs
from tests.models import llama

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
USERS = ("mine.yaml", "shop.yaml")  # data files of a user's own
TUTORIAL = ROOT / "docs/tutorials/python.md"
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")
COMMAND = re.compile(r"(?:\bpollinate|-m pipeline\.)\s?(?P<name>\w+)(?P<rest>.*)")


def commands() -> Iterator[tuple[str, str, str]]:
    """Yield (page, command, its arguments) of every command in a bash block, each once."""
    seen = set()
    for page in PAGES:
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                match = COMMAND.search(line.partition(" #")[0])
                if match is None or line.startswith(("#", "pip ")):
                    continue
                command = (match["name"], match["rest"].strip())
                if command not in seen:
                    yield page.name, *command
                seen.add(command)


@pytest.mark.parametrize(("page", "name", "arguments"), list(commands()))
def test_a_command_composes(
    page: str, name: str, arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("tests", "benchmarks", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for file in USERS:
        (tmp_path / file).symlink_to(ROOT / "tests/data/tasks.yaml")
    assert name in SCHEMAS
    words = shlex.split(arguments)
    config = compose(name, [word for word in words if "=" in word and "$" not in word])
    if name == "fit":
        check_run_folder(config | {"run_dir": None})


def test_the_pages_have_commands() -> None:
    assert len(list(commands())) > 80


def without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a site and GitHub give to a page's headings."""
    titles = re.findall(r"^#+ (.*)", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(without_code(page)):
        if "://" not in target:
            path = page.parent / target if target else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_the_site_lists_every_page() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES[2:]]
    assert [page for page in pages if f" {page}\n" not in site] == []


@pytest.fixture
def made() -> Any:
    """The module that makes pages."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    spec = spec_from_file_location("reference_pages", ROOT / "docs/reference_pages.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_has_every_public_name(made: Any) -> None:
    for family in ("pollinate", *(f"pollinate.{name}" for name in FAMILIES)):
        page = made.api_page(family)
        names = [n for n in import_module(family).__all__ if n not in (*FAMILIES, *made.VALUES)]
        assert [name for name in names if f"\n| [`{name}`]" not in page] == []


def test_a_public_name_that_cannot_be_loaded_stops_the_site(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("pollinate.balancers")
    monkeypatch.setattr(module, "__all__", [*module.__all__, "UPGard"])
    with pytest.raises(AttributeError, match="has no 'UPGard'; did you mean UPGrad"):
        made.api_page("pollinate.balancers")


def test_a_notebook_is_a_page_with_its_outputs(made: Any) -> None:
    (page,) = (text for uri, text in made.pages() if uri.startswith("notebooks/"))
    assert page.count('<img alt="What the cell draws" src="data:image/png;base64,') == 2
    assert page.count("<table>") == page.count("</table>") > 3
    assert "'priority': 'helped'" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_and_yaml_in_pages_are_valid(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        compile(textwrap.dedent(block).strip().rstrip(","), page.name, "exec")
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        yaml.safe_load(block)


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
    page = (ROOT / "docs/how_to/data.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    _, _, file = (ROOT / "tests/data/tasks.yaml").read_text(encoding="utf-8").partition("\n")
    assert shown == file


def test_the_data_page_names_every_source_task_and_augmentation() -> None:
    page = (ROOT / "docs/how_to/data.md").read_text(encoding="utf-8")
    for group in ("source", "task", "augment"):
        for file in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"`{file.stem}`" in page or file.stem == "quickstart", file


WRITING = ROOT / "docs/tutorials/generation.md"


def test_the_tutorial_of_answers_in_words_trains(tmp_path: Path) -> None:
    page = WRITING.read_text(encoding="utf-8")
    names = re.findall(r"^`(\w+\.csv)`", page, re.MULTILINE)
    for name, table in zip(names, re.findall(r"```text\n(.*?)```", page, re.DOTALL), strict=True):
        header, *rows = table.splitlines()
        many = [row.replace(" ", f" {number} ", 1) for number in range(8) for row in rows]
        (tmp_path / name).write_text("\n".join([header, *many]) + "\n", encoding="utf-8")
    (data,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "shop.yaml").write_text(data, encoding="utf-8")
    model = ["encoder/text=language_model", f"encoder.text.model={llama(tmp_path / 'model')}"]
    small = ["encoder.text.weights=false", "dim=8", "sampler.batch_size=8", "trainer.max_steps=1"]
    run = tmp_path / "run"
    assert (
        fit([f"data={tmp_path}/shop.yaml", *model, *small, "tracking=none", f"run_dir={run}"]) == 0
    )
    test = json.loads((run / "summary.json").read_text())["test"]
    assert set(test) == {"summary", "reply", "headline", "team", "mood"}
    assert all("chrf" in test[task] for task in ("summary", "reply", "headline"))


def batches(count: int = 60) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What the tutorial's loop trains on."""
    draws = torch.Generator().manual_seed(0)
    for _ in range(count):
        rows = torch.randn(32, 8, generator=draws)
        yield rows, rows[:, :3].argmax(dim=1), rows[:, 3:4]


@pytest.mark.parametrize("sign", ["-", "+"])
def test_the_loop_of_the_tutorial_trains_before_and_after_the_change(sign: str) -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    lines = diff.splitlines()
    assert sum(line.startswith("+") for line in lines) == 3
    code = "\n".join(line[1:] for line in lines if line[:1] in ("", " ", sign))
    values: dict[str, Any] = {"batches": batches()}
    torch.manual_seed(0)
    exec(code, values)  # the project's own page
    assert {task: loss.item() < 0.9 for task, loss in values["losses"].items()} == {
        "kind": True,
        "size": True,
    }


def test_every_trunk_and_fusion_is_explained() -> None:
    page = (ROOT / "docs/how_to/sharing.md").read_text(encoding="utf-8")
    known = options("trunk", [SHIPPED])
    missing = [n for n in (*known, *options("fusion", [SHIPPED])) if f"`{n}`" not in page]
    assert missing == []
    assert f"{len(known)} ways" in (ROOT / "README.md").read_text()


def test_every_balancer_is_explained() -> None:
    page = (ROOT / "docs/how_to/balancing.md").read_text(encoding="utf-8")
    known = options("balancer", [SHIPPED])
    assert [name for name in known if f"`{name}`" not in page] == []
    assert f"{len(known)} ways" in (ROOT / "README.md").read_text()


def test_every_merging_method_is_explained() -> None:
    page = (ROOT / "docs/how_to/merging.md").read_text(encoding="utf-8")
    assert [name for name in options("method", [SHIPPED]) if f"`{name}`" not in page] == []


def test_every_pretrained_option_is_explained() -> None:
    page = (ROOT / "docs/how_to/encoders.md").read_text(encoding="utf-8")
    assert [name for name in options("tune", [SHIPPED]) if f"`{name}`" not in page] == []
    for name in (
        "text=minilm",
        "text=transformers",
        "audio=transformers",
        "image=timm",
        "image=efficientnet_lite0",
    ):
        assert f"`encoder/{name}" in page


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the files that the tutorial's programs read."""
    rows = ["review,stars,category"]
    for i in range(60):
        kind, stars = ("tea", "coffee")[i % 2], i % 3
        rows.append(f"{('poor', 'fair', 'great')[stars]} {kind} number {i},{stars},{kind}")
    (tmp_path / "reviews.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (data,) = re.findall(r"```yaml\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "shop.yaml").write_text(data, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def programs() -> list[str]:
    pages = [ROOT / "README.md", TUTORIAL]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    return list(dict.fromkeys(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))


@pytest.mark.parametrize("program", programs())
def test_a_program_is_short(program: str) -> None:
    assert len(program.splitlines()) <= 25


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # a stock Trainer warns of its own setup
@pytest.mark.parametrize("program", programs())
def test_a_program_runs(program: str, shop: None, request: pytest.FixtureRequest) -> None:
    before, study, after = program.partition("po.study(")
    if study:  # whose program is long: its runs are forked; another one's are tracked
        before = before.replace("overrides=[", 'overrides=["tracking=none", ')
        given = ["tracking=none", f"launcher={request.getfixturevalue('launcher')}"]
        after = after.replace("overrides=[", f"overrides=[*{given}, ")
    with lean_runs():
        exec(before + study + after, {"__name__": "program"})  # the project's own pages
