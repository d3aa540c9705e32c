"""``pipeline.fit`` in this process, without what takes longer than the rest of a tiny run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest


def fit(arguments: Sequence[str]) -> int:
    """Run the command without plots, linear models, presets, a step's cost, a copy of our code."""
    from pipeline.fit import main

    with lean_runs():
        return main(arguments)


@contextmanager
def lean_runs() -> Iterator[None]:
    """Make all runs of this process so."""
    from pipeline.linear.scores import LinearScores
    from pipeline.presets.apply import ChosenConfig

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.training_run.draw_plots", lambda *_: [])
        patch.setattr("pipeline.training_run.draw_reliability", lambda *_: [])
        patch.setattr("pipeline.training_run.cost_line", lambda _: "no estimate")
        # of those that go into a model's folder: hundreds of files
        patch.setattr("pipeline.serving.model_folder.OWN_PACKAGES", ())
        patch.setattr("pipeline.training_run.linear_scores", lambda *_: LinearScores())
        patch.setattr(
            "pipeline.presets.apply.apply_preset", lambda _, config, *__: ChosenConfig(config)
        )
        yield
