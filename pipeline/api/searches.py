"""Searches in Python: the best model for all tasks in the time there is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline import search as search_command
from pipeline.api.runs import Data, load
from pollinate.errors import PollinateError, UsageError
from pollinate.foreign import read_json
from pollinate.overrides import override

if TYPE_CHECKING:
    from pipeline.api.runs import Model

RESULTS = "results.json"


def search(
    data: Data | None = None,
    time_limit: str | None = None,
    overrides: Sequence[str] = (),
    *,
    config_dirs: Sequence[str | Path] = (),
    quiet: bool = False,
) -> Search:
    """Find the best model for all tasks in the time there is, as ``pollinate search``.

    Args:
        data: as for ``po.fit``; a dict is kept as a file in runs/data, which trials read.
        time_limit: of the whole search: "90s", "30m", "8h"; None: half an hour, or what a search
            had that is resumed.
        overrides: of the command: ``["preset=good", "jobs=2", "max_latency_ms=5"]``.
        config_dirs: folders with configurations of your own.
        quiet: whether nothing is printed but warnings.

    Raises:
        UsageError: the configuration or the data are wrong, or the time is too short; nothing was
            started.
        PollinateError: no model could be trained.
        InterruptedRunError: Ctrl-C stopped it; ``overrides=["resume=FOLDER"]`` goes on.

    Examples:
        >>> import pollinate as po
        >>> try:  # half an hour would do; it gives a ``Search``
        ...     found = po.search("shop.yaml", time_limit="1s", quiet=True)
        ... except po.UsageError as error:
        ...     print(error)
        time_limit must be enough for the run of all tasks, about ... s, got 1 s; give more, ...
    """
    limit = [] if time_limit is None else [override("time_limit", time_limit)]
    words = [*limit, *overrides]
    found = search_command.call(words, data=data, config_dirs=config_dirs, quiet=quiet)
    if found.outcome is None:
        raise UsageError("dry_run=true only prints the plan; leave it out to get a model")
    return Search(found.folder)


class Search:
    """A search, read from its folder: the model, the leaderboard and the verdict.

    Args:
        folder: of the search; ``po.search`` gives one whose folder it made.

    Attributes:
        folder: its path.

    Raises:
        PollinateError: the folder holds no search that has ended.

    Examples:
        >>> import pandas as pd, pollinate as po
        >>> found = po.Search("runs/search")
        >>> found.leaderboard["model"].tolist()
        ['joint', 'alone-mood', 'ensemble']
        >>> found.model().predict(pd.read_csv("reviews.csv"), tasks=["mood"]).columns.tolist()[0]
        'mood'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        if not (self.folder / RESULTS).is_file():
            raise PollinateError(
                f"{self.folder} holds no search that has ended: there is no {RESULTS}; resume it"
            )

    def __repr__(self) -> str:
        return f"Search({str(self.folder)!r}, {self.results['chosen']})"

    @cached_property
    def results(self) -> dict[str, Any]:
        """All that results.json says."""
        found: dict[str, Any] = read_json(self.folder / RESULTS)
        return found

    def model(self, allow_targets: Sequence[str] = ()) -> Model:
        """Return the model: one that predicts, evaluates, serves and exports as any other.

        Args:
            allow_targets: packages of your own whose classes it may name.
        """
        return load(self.folder / "model", allow_targets=allow_targets)

    @property
    def leaderboard(self) -> pd.DataFrame:
        """A row for each model, the best first, then what can be returned.

        Columns: model; valid/TASK and test/TASK, the scores; parameters; seconds.
        """
        return pd.read_csv(self.folder / "leaderboard.csv")

    @property
    def summary(self) -> str:
        """What the search says, in sentences, the most important first."""
        return "\n".join(self.results["verdict"])

    @property
    def report(self) -> Path:
        """Path of the page."""
        return self.folder / "report.html"
