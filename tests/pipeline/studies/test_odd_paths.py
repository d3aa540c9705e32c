"""Studies in folders whose names mean something to Hydra, to the shell or to YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.configuration.composition import parse_override
from pipeline.studies.jobs import FitJob, JobContext
from pipeline.studies.overrides import trial_overrides
from pipeline.studies.predictors import RankJob
from pipeline.studies.trial_files import TrialFiles
from pollinate.overrides import override

ODD = ["Projects [2024]", "it's", "a,b", "lr=0.1,bs=3", "50%?", "a b", "{x}", 'say "x"']


def values(arguments: list[str]) -> dict[str, object]:
    """Read a job's command line as the command does."""
    parsed = [parse_override(text) for text in arguments[1:]]
    return {one.key_or_group: one.value() for one in parsed}


@pytest.mark.parametrize("name", ODD)
def test_a_trial_is_told_the_right_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "shop.yaml").touch()
    monkeypatch.chdir(folder)
    base = trial_overrides(
        ["data=shop.yaml", override("data.cache", folder / "cache"), "seeds=[0]"]
    )
    options = {"title": "x", "context": JobContext(folder), "base": base}
    job = FitJob(files=TrialFiles(folder / "seed-0"), own=["seed=0"], **options)
    found = values(job.arguments())
    assert found["data"] == str(folder / "shop.yaml")
    assert found["data.cache"] == str(folder / "cache")
    assert found["run_dir"] == str(folder / "seed-0")
    job.files.run.create()
    job.files.run.write_config({})
    assert values(job.resume_arguments())["resume"] == str(folder / "seed-0")
    models = {"a": job.files}
    ranking = RankJob(files=TrialFiles(folder / "r"), tasks=["a"], models=models, **options)
    assert values(ranking.arguments())["sources"] == [str(folder / "seed-0")]


def test_a_quoted_file_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b[1].yaml").touch()
    (text,) = trial_overrides(['data="a b[1].yaml"'])
    assert parse_override(text).value() == str(tmp_path / "a b[1].yaml")
