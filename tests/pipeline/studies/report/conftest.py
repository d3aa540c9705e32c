"""A report that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.studies.analysis.analyze import analyze
from pipeline.studies.report.write import write_report
from tests.pipeline.studies.example_study import results


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with its report, not to be changed."""
    folder = tmp_path_factory.mktemp("study")
    study = results(folder)
    write_report(study, analyze(study), folder)
    return folder
