"""Looks before a training, in Python: at the data, at sources, and at what a run will cost."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from pipeline import inspect as inspect_command
from pipeline import plan as plan_command
from pipeline import rank_sources as rank_command
from pipeline.api.runs import Data, Model, Run
from pipeline.plan import PlanResult
from pollinate.overrides import override


@dataclass(frozen=True)
class Inspection:
    """What is in the data, and what may be wrong with them. ``po.inspect`` gives it.

    Attributes:
        folder: with the page and the list of problems.
        page: to open in a browser.
        rows: rows of each data set: a row a data set, a column a split.
        problems: the worst first: severity (error, warning, note), where (data set or task), what,
            advice, count (rows concerned), places (the first of them, with file and line).

    Examples:
        >>> import pollinate as po
        >>> found = po.inspect("shop.yaml", ["tracking=none", "run_dir=looks"], quiet=True)
        >>> isinstance(found, po.Inspection), found.page.name
        (True, 'inspect.html')
        >>> found.rows
                 train  valid  test
        reviews     60     20    20
    """

    folder: Path
    page: Path
    rows: pd.DataFrame
    problems: pd.DataFrame


def inspect(
    data: Data | None = None,
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[str | Path] = (),
    quiet: bool = False,
) -> Inspection:
    """Look at data before training: numbers, problems with their rows, sample rows.

    Args:
        data, config_dirs, quiet: as for ``po.fit``.
        overrides: of ``pollinate inspect``: ``["run_dir=looks"]``.

    Raises:
        UsageError: the configuration is wrong. What is wrong with rows is no error but a problem.

    Examples:
        >>> import pollinate as po
        >>> found = po.inspect("shop.yaml", ["tracking=none"], quiet=True)
        >>> int(found.rows.loc["reviews"].sum()), "error" in set(found.problems.severity)
        (100, False)
    """
    found = inspect_command.call(overrides, data=data, config_dirs=config_dirs, quiet=quiet)
    facts = found.findings.facts
    rows = pd.DataFrame({name: own.rows for name, own in facts.items()}).T
    columns = ["severity", "where", "what", "advice", "count", "places"]
    problems = pd.DataFrame([asdict(one) for one in found.findings.problems], columns=columns)
    return Inspection(found.folder.path, found.page, rows, problems)


def rank_sources(
    data: Data | None = None,
    sources: Sequence[str | Path | Run | Model] = (),
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[str | Path] = (),
    quiet: bool = False,
) -> pd.DataFrame:
    """Say which model, and which of the data's own tasks, each task may gain most from.

    Args:
        data, config_dirs, quiet: as for ``po.fit``.
        sources: what ``po.load`` takes, folders of timm or transformers, or encoders such as
            ``encoder/text=minilm``.
        overrides: of ``pollinate rank_sources``: ``["scores=[log_me,leep]", "steps=0"]``.

    Returns:
        A row for each task, source and score: rank (1 is best among its kind), value (larger is
        better), seconds, rows that were looked at, part of the source, reason why there is no
        value.

    Raises:
        UsageError: the configuration is wrong.
        PollinateError: the data or a source can't be read.

    Examples:
        >>> import pollinate as po
        >>> options = ["scores=[log_me]", "steps=0", "tracking=none"]
        >>> ranks = po.rank_sources("shop.yaml", ["runs/first"], options, quiet=True)
        >>> ranks[ranks.source == "runs/first"][["task", "score"]].values.tolist()
        [['mood', 'log_me'], ['stars', 'log_me']]
    """
    from pipeline.ranking.ranking_report import as_csv  # imports torch

    given = [one.checkpoint if isinstance(one, Run | Model) else one for one in sources]
    words = [override("sources", [str(one) for one in given]), *overrides]
    found = rank_command.call(words, data=data, config_dirs=config_dirs, quiet=quiet)
    return pd.read_csv(io.StringIO(as_csv(found.report)))


def plan(
    data: Data | None = None,
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[str | Path] = (),
    quiet: bool = False,
) -> PlanResult:
    """Say what a run will cost before it runs.

    Args:
        data, config_dirs, quiet: as for ``po.fit``.
        overrides: of ``pollinate plan``: ``["memory=16GB", "trainer.devices=4"]``.

    Returns:
        ``cost`` of a step: its weights, operations and bytes; ``largest_batch``: the largest
        ``sampler.batch_size`` that fits into ``memory``, None if that isn't given.

    Raises:
        UsageError: the configuration is wrong.

    Examples:
        >>> import pollinate as po
        >>> found = po.plan("shop.yaml", ["memory=1GB"], quiet=True)
        >>> found.largest_batch > 64
        True
    """
    return plan_command.call(overrides, data=data, config_dirs=config_dirs, quiet=quiet)
