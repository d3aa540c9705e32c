from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

import pollinate as po
from tests.pipeline.studies.text_shop import SMALL


def test_a_study_opens_by_its_folder(finished: Path) -> None:
    found = po.Study(finished / "one")
    assert found.report == finished / "one" / "report.html"
    assert set(found.verdicts) == {"mood", "speed"}
    assert set(found.verdicts.values()) <= {"helped", "hurt", "unclear"}
    assert found.failed == {}
    assert found.summary.splitlines()[0] in (finished / "printed").read_text()
    table = found.table.set_index(["arm", "task"])
    joint = table[table.verdict.notna()]
    assert {"mood", "speed"} <= set(joint.index.get_level_values("task"))
    assert (table.seeds == 2).all()
    assert (table.low <= table.score).all()
    one = joint.iloc[0]
    alone = table[table.difference.isna()].xs(joint.index[0][1], level="task").score.iloc[0]
    assert one.score - alone == pytest.approx(one.difference)
    assert pd.read_csv(finished / "one/comparisons.csv").verdict.isin(joint.verdict).any()


def test_a_finished_study_is_reported_anew(
    finished: Path,
    launcher: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(finished)
    again = ["resume=one", f"launcher={launcher}"]
    found = po.study(seeds=[0, 1], overrides=again, quiet=True)
    assert found.verdicts == po.Study("one").verdicts
    assert capfd.readouterr().out == ""


def test_a_dict_is_kept_for_the_trials(shop: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = yaml.safe_load((shop / "shop.yaml").read_text())
    options = [text for text in SMALL if not text.startswith("data=")]
    with pytest.raises(po.UsageError, match="dry_run=true only prints"):
        po.study(spec, [0], [*options, "dry_run=true"])
    (kept,) = (shop / "runs/data").iterdir()
    assert f"data={kept}" in capfd.readouterr().out.replace("\n", "")


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(po.PollinateError, match="holds no study"):
        po.Study(tmp_path)
