"""What the plan of a study knows of a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.build import build_datamodule
from pipeline.configuration.composition import compose
from pipeline.studies.profiling import time_steps

ENCODER = ["encoder/text=transformers", "encoder.text.model=tests/data/text_model"]
TITLES = ["~data.datasets.shop.inputs.image"]
TEXTS = ["data=tests/data/tasks.yaml", "tasks=[size]", "encoder.text.weights=false"]


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # Lightning's, with torch
@pytest.mark.parametrize("tune", ["full", "frozen"])
def test_steps_are_timed_unless_features_are_kept(tune: str, tmp_path: Path) -> None:
    options = [*ENCODER, *TEXTS, f"encoder.text.tune={tune}", f"data.cache={tmp_path}", *TITLES]
    config = compose("fit", options)
    data = build_datamodule(config)
    data.setup()
    seconds, notes = time_steps(config, data)
    if tune == "frozen":
        assert seconds is None
        assert "features of text are kept" in notes[0]
    else:
        assert notes == []
        assert seconds is not None
