from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import pollinate as po
from tests.pipeline.studies.text_shop import SMALL


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
