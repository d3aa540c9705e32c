"""Studies in Python: whether sharing helped each task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline import study as study_command
from pipeline.api.runs import Data
from pollinate.errors import UsageError
from pollinate.overrides import override

if TYPE_CHECKING:
    from pipeline.studies.analysis.estimates import StudyAnalysis
    from pipeline.studies.results import StudyResults


def study(
    data: Data | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[str | Path] = (),
    quiet: bool = False,
) -> Study:
    """Train the tasks alone and together over several seeds, and compare, as ``pollinate study``.

    Args:
        data: as for ``po.fit``; a dict is kept as a file in runs/data, which trials read.
        seeds: of every run; two give intervals, one gives none.
        overrides: of the command: ``["study=pairs", "jobs=2", "trainer.max_steps=500"]``.
        config_dirs: folders with configurations of your own.
        quiet: whether nothing is printed but warnings.

    Raises:
        UsageError: the configuration or the data are wrong; nothing was started.
        PollinateError: all runs failed. Those that failed among others are in ``Study.failed``.
        InterruptedRunError: Ctrl-C stopped it; ``overrides=["resume=FOLDER"]`` goes on.

    Examples:
        >>> import pollinate as po
        >>> study = po.study("shop.yaml", seeds=[0, 1], overrides=["resume=runs/study"], quiet=True)
        >>> study.report.name  # the study was complete, so it is only reported anew
        'report.html'
    """
    words = [override("seeds", list(seeds)), *overrides]
    found = study_command.call(words, data=data, config_dirs=config_dirs, quiet=quiet)
    if found.results is None:
        raise UsageError("dry_run=true only prints what would run; leave it out to get a study")
    return Study(found.folder)


class Study:
    """A study, read from its folder: verdicts, scores and the report.

    Args:
        folder: of the study; ``po.study`` gives one whose folder it made.

    Attributes:
        folder: its path.

    Raises:
        PollinateError: the folder holds no study, or none of its runs has finished.

    Examples:
        >>> import pollinate as po
        >>> study = po.Study("runs/study")
        >>> sorted(study.verdicts), set(study.verdicts.values()) <= {"helped", "hurt", "unclear"}
        (['mood', 'stars'], True)
        >>> study.table[study.table.verdict.notna()].arm.unique().tolist()
        ['multi_task']
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._results  # noqa: B018  # fails here if there is no study

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r}, {self.verdicts})"

    @cached_property
    def _results(self) -> StudyResults:
        from pipeline.studies.trials import collect

        return collect(self.folder)

    @cached_property
    def _analysis(self) -> StudyAnalysis:
        from pipeline.studies.analysis.analyze import analyze

        return analyze(self._results)

    @property
    def verdicts(self) -> dict[str, str]:
        """{task: helped, hurt or unclear}: the run of all tasks against the task alone.

        Helped and hurt are what a paired test over the seeds says, at 5 % for all comparisons of
        the study together (Holm 1979).
        """
        from pipeline.studies.report.report_data import MULTI_TASK

        found = self._analysis.comparisons.get(MULTI_TASK)
        return {} if found is None else {t: str(c.verdict) for t, c in found.changes.items()}

    @property
    def summary(self) -> str:
        """What the study says, in sentences, the most important first."""
        from pipeline.studies.report.verdict import verdict

        return "\n".join(verdict(self._results, self._analysis))

    @property
    def table(self) -> pd.DataFrame:
        """A row for each arm and task.

        Columns: metric; score, its 95 % interval low to high, and the seeds that it is the mean of;
        then, against the task alone: difference, its interval difference_low to difference_high,
        p of the paired test, adjusted for all comparisons, and verdict.
        """
        rows = []
        for arm, scores in self._analysis.scores.items():
            compared = self._analysis.comparisons.get(arm)
            for task, score in scores.items():
                row: dict[str, Any] = {"arm": arm, "task": task}
                row |= {"metric": self._results.metrics[task], "score": score.mean}
                row |= {"low": score.low, "high": score.high, "seeds": score.seeds}
                change = None if compared is None else compared.changes.get(task)
                if change is not None:
                    own = change.difference
                    row |= {"difference": own.mean, "difference_low": own.low}
                    row |= {"difference_high": own.high, "p": change.adjusted}
                    row |= {"verdict": change.verdict}
                rows.append(row)
        numbers = ("score", "low", "high", "difference", "difference_low", "difference_high", "p")
        columns = ["arm", "task", "metric", *numbers[:3], "seeds", *numbers[3:], "verdict"]
        found = pd.DataFrame(rows, columns=columns)
        return found.astype(dict.fromkeys(numbers, "float64"))

    @property
    def failed(self) -> dict[str, str]:
        """{arm and seed of a run without a result: why}."""
        lost = (t for t in self._results.trials if t.status in ("failed", "timeout"))
        return {f"{trial.arm}, seed {trial.seed}": trial.message or trial.status for trial in lost}

    @property
    def report(self) -> Path:
        """Path of the page; of the folder, where there is no page yet."""
        return next(iter(sorted(self.folder.glob("*.html"))), self.folder)
