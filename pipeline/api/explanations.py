"""Explanations in Python: why a model answers what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pollinate.errors import UsageError

if TYPE_CHECKING:  # they import torch
    from pipeline.explanation.findings import ExplainedAnswer, Findings
Rows = pd.DataFrame | Mapping[str, Sequence[Any]] | str | Path


class Explanations:
    """What counts in a model's answers to rows. ``po.explain`` and ``run.explain`` give it.

    Rows are counted from 0, as in the frame that was given.

    Examples:
        >>> import pollinate as po
        >>> why = po.explain("runs/first", {"text": ["good fresh bread", "bad tea"]}, quiet=True)
        >>> isinstance(why, po.Explanations), sorted(set(why.words.task))
        (True, ['mood', 'stars'])
        >>> why.words[why.words.row == 0].word.tolist()[:3]
        ['good', 'fresh', 'bread']
        >>> page = why.save("why")  # explain.html, and explain.json beside it
        >>> page.name
        'explain.html'
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def __repr__(self) -> str:
        return f"Explanations({self._findings.rows} rows, tasks={list(self._findings.tasks)})"

    def _all(self) -> list[ExplainedAnswer]:
        return [one for own in self._findings.tasks.values() for one in own.answers]

    @property
    def doubts(self) -> list[str]:
        """What the checks found against the explanations; empty if nothing."""
        return self._findings.doubts()

    @property
    def answers(self) -> pd.DataFrame:
        """A row for each explained answer.

        row, task, answer; score, by which it is explained; score_of_nothing, of a row that says
        nothing; missing, the share of their difference that no part has. Where rows have several
        inputs, a column for each has its Shapley value; where two models are compared, other_INPUT
        has the rank correlation of their explanations.
        """
        rows = []
        for one in self._all():
            own = one.explanation
            rows.append(
                {
                    "row": own.row,
                    "task": own.task,
                    "answer": own.name,
                    "score": own.score,
                    "score_of_nothing": own.nothing,
                    "missing": own.gap,
                    **own.modalities,
                    **(
                        {f"other_{name}": v for name, v in one.other.correlations.items()}
                        if one.other
                        else {}
                    ),
                }
            )
        return pd.DataFrame(rows)

    @property
    def words(self) -> pd.DataFrame:
        """A row for each word of each text: row, task, answer, word, start, end, adds."""
        rows: list[dict[str, Any]] = []
        for one in self._all():
            own = one.explanation
            if own.text is None or "text" not in own.pieces:
                continue
            first = {"row": own.row, "task": own.task, "answer": own.name}
            rows += [
                {**first, "word": word, "start": start, "end": end, "adds": value}
                for word, (start, end), value in zip(
                    own.text.names,
                    own.text.spans.tolist(),
                    own.pieces["text"].tolist(),
                    strict=True,
                )
            ]
        columns = ["row", "task", "answer", "word", "start", "end", "adds"]
        return pd.DataFrame(rows, columns=columns)

    def map(self, task: str, row: int, modality: str = "image") -> np.ndarray:
        """Return what each pixel (H, W), or cell of a spectrogram (L, F), adds to a row's answer.

        Raises:
            UsageError: there is no such explanation.
        """
        for one in self._all():
            own = one.explanation
            pieces = own.pieces.get(modality)
            if (own.task, own.row) == (task, row) and pieces is not None and pieces.dim() == 2:
                return np.asarray(pieces.numpy())
        raise UsageError(
            f"there is no map of {modality} for task {task} and row {row}; rows are counted from 0"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, what explain.json holds; there rows begin at 1."""
        from pipeline.explanation.findings import as_json  # imports torch

        return as_json(self._findings)

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write explain.html and explain.json into a folder; return the page's path.

        Args:
            folder: made if it isn't there.
            overwrite: an earlier explanation in it.

        Raises:
            UsageError: there is one.
        """
        from pipeline.explanation.output import explanation_folder, write_findings  # torch

        place = str(Path(folder).expanduser())
        found = explanation_folder(Path(self._findings.checkpoint), place, overwrite)
        return write_findings(self._findings, found)[0]
