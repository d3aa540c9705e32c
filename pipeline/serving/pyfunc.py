"""A run's model in MLflow: raw texts and images in, labels out, in ``mlflow models serve`` too.

Nothing is pickled: MLflow imports this file from the model's own copy of our code and calls
``_load_pyfunc``.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.inputs import column_cells, columns_named, text_pair
from pipeline.serving.model_folder import (
    DESCRIPTION,
    FLAGS,
    PAIR_COLUMN,
    PARAMETERS,
    TEXT_COLUMNS,
    WEIGHTS,
    ModelDescription,
    export_model,
    input_names,
    package_for_mlflow,
    prompt_columns,
)
from pollinate.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from lightning_modules.predictor import Predictor


def save_model(checkpoint: Path, folder: Path, allow_targets: Sequence[str] = ()) -> None:
    """Write an MLflow model that ``mlflow.pyfunc.load_model`` reads.

    Args:
        checkpoint: written by ``pipeline.fit``.
        folder: what is in it is replaced.
        allow_targets: packages, besides our own, whose classes the checkpoint may name; their
            code goes into the model.
    """
    export_model(checkpoint, folder, allow_targets)
    package_for_mlflow(folder)


def _load_pyfunc(path: str) -> ServedModel:
    """Load what ``export_model`` wrote; MLflow calls it by this name.

    Packages of the user's are allowed as the model says: it brings its code along anyway.
    """
    from lightning_modules.predictor import Predictor  # imports torch

    accept_half_surrogates()
    folder = Path(path)
    description = ModelDescription(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))
    predictor = Predictor.load(folder / WEIGHTS, description.allow_targets)
    return MLflowModel(predictor)


SERVER = "mlflow.pyfunc.scoring_server.app"  # which loads the model of ``mlflow models serve``


def accept_half_surrogates() -> None:
    """Let MLflow's server hand over texts that UTF-8 has no bytes for: they fail their row only."""
    import pandas as pd

    if SERVER in sys.modules:  # in anyone else's process pandas stays as it is
        pd.set_option("mode.string_storage", "python")


class ServedModel:
    """Answers tables with the columns text, text_pair, image and audio, those the model reads.

    Columns that prompts of tasks that answer in words name have the names of training.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return <task>, <task>_probability and error for each row.

        Masks and depths are PNGs as base64.

        An empty cell means that the row lacks the modality: tasks that read it don't answer. A
        cell that can't be read is named in ``error``, and stops no other row.

        Args:
            model_input: text: str; text_pair: the second text of a pair; image, audio: the content
                of a file, as bytes or base64. None, NaN and "" are an empty cell, null in JSON.
            params: coverage, risk, answered, false_alarms: numbers, as ``pollinate predict`` takes
                them; per_class, together: whether. None: a coverage that training asked for,
                nothing else.

        Raises:
            UsageError: the table has none of the columns that the model reads, or a column twice;
                or lists of a request differ in length.
        """
        import pandas as pd

        from lightning_modules.trust.doubts import DoubtOptions  # imports torch
        from pipeline.prediction.output_files import ERROR, prediction_cells

        names = self._names(list(map(str, model_input.columns)))
        table = exploded(model_input, names)
        empty = self.predictor.empty_words
        asked = prompt_columns(self.predictor.inputs)
        texts = {*TEXT_COLUMNS, *asked}
        raw = {
            name: [raw_value(cell, name in texts, empty) for cell in table[name]] for name in names
        }
        doubts = self.predictor.doubts(DoubtOptions(**options_of(params)))
        found = self.predictor.predict(self._inputs(raw, asked), doubts=doubts)
        answered: dict[str, list[Any]] = {}
        for task, labels in found.answers.items():
            kind, own = self.predictor.tasks[task], doubts.get(task)
            rows = labels or [None] * len(table)
            cells = [prediction_cells(task, kind, label, own) for label in rows]
            columns_of_task = prediction_cells(task, kind, None, own)
            answered |= {name: [row[name] for row in cells] for name in columns_of_task}
        errors = [found.errors.get(row, "") for row in range(len(table))]
        # as objects an empty cell stays None, and null in JSON, which has no NaN
        return pd.DataFrame({**answered, ERROR: errors}, dtype=object)

    def _inputs(
        self, cells: dict[str, list[Any]], asked: Collection[str]
    ) -> dict[str, Sequence[Any]]:
        """Return {modality, or prompts of a task: raw values} of a request's cells."""
        found: dict[str, Sequence[Any]] = {
            name: column for name, column in cells.items() if name in self.predictor.modalities
        }
        if PAIR_COLUMN in cells:
            second = cells[PAIR_COLUMN]
            first = cells.get("text", [None] * len(second))
            found["text"] = [text_pair(*pair) for pair in zip(first, second, strict=True)]
        for columns in self.predictor.inputs.values():
            for name, given in columns.items():
                needed = columns_named(given)
                if name not in found and asked and all(one in cells for one in needed):
                    found[name] = list(column_cells(given, cells))
        return found

    def _names(self, given: Sequence[str]) -> list[str]:
        """Return the columns of a request that the model reads."""
        known = input_names(self.predictor.inputs)
        twice = sorted({name for name in known if given.count(name) > 1})
        if twice:
            raise UsageError(f"columns must differ, got {', '.join(twice)} twice; rename one")
        found = [name for name in known if name in given]
        if found == [PAIR_COLUMN] or not found:
            wanted = [name for name in known if name != PAIR_COLUMN]
            others = f"got {', '.join(given)}" if given else "got none of them"
            raise UsageError(
                f"a request must have the column {' or '.join(wanted)}, {others}; call the columns "
                "of the table so"
            )
        return found


def options_of(params: Any) -> dict[str, Any]:
    """Return what a request asks for beside the answers, as ``DoubtOptions`` take it."""
    given = params or {}
    known: dict[str, Any] = {name: given.get(name) or None for name in PARAMETERS}
    return known | {name: bool(given.get(name)) for name in FLAGS}


class MLflowModel(ServedModel):
    """The same, whose errors MLflow's server answers with status 400 and their text."""

    def predict(self, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return the answers; see ``ServedModel.predict``.

        Raises:
            mlflow.exceptions.MlflowException: for a UsageError.
        """
        from mlflow.exceptions import MlflowException

        try:
            return super().predict(model_input, params)
        except UsageError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def exploded(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return a table with a row for each item where its cells are lists of rows.

    MLflow hands {"inputs": {"text": [a, b]}} over as one row, whose cells are arrays.
    """
    cells = (cell for name in names for cell in table[name])
    if not any(isinstance(cell, list | np.ndarray) for cell in cells):
        return table
    try:
        return table.explode(list(names), ignore_index=True)
    except ValueError as error:
        raise UsageError(
            f"the lists of {', '.join(names)} must have one length each row: {error}"
        ) from error


def raw_value(cell: Any, is_text: bool, empty: Collection[str] = ()) -> Any:
    import pandas as pd

    if pd.api.types.is_scalar(cell) and (pd.isna(cell) or cell == b""):
        return None
    if isinstance(cell, str) and (cell in empty or not cell.strip()):
        return None
    return cell if is_text or isinstance(cell, bytes) else file_content(str(cell))


def file_content(text: str) -> bytes:
    """Return a file's content from base64, as some of MLflow's request formats leave it.

    A path is never opened for a stranger: it is no base64, or the wrong content.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode(errors="surrogatepass")
