"""A data set as a user describes it: its rows, which columns are inputs, and how it is split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.dataset_rules import INPUT_FORMS, is_input, is_number, split_problems
from datamodules.inputs import InputColumns, columns_named
from datamodules.modalities.defaults import MODALITIES
from datamodules.python_data import (
    Frame,
    HuggingFace,
    Items,
    Joined,
    MapStyle,
    PythonSource,
    is_a,
)
from datamodules.sources.arrow import Arrow
from datamodules.sources.base import Source, matching_paths
from datamodules.sources.class_names import class_names_of
from datamodules.sources.csv import Csv
from datamodules.sources.folder import AudioFolder, ImageFolder
from datamodules.sources.json import Json
from datamodules.sources.npz import Npz
from datamodules.sources.parquet import Parquet
from datamodules.splits import split_name
from datamodules.table import SPLIT_COLUMN, SourceTable
from pollinate.errors import UsageError
from pollinate.suggest import hint, listing, raise_all

SHARE = 0.1  # of the training rows that is drawn for a split that nothing is said of
OWN_SPLIT = (
    "split"  # a column of this name says each row's split, if all its words are splits' names
)
SAVED = ("dataset_info.json", "dataset_dict.json")  # files of ``save_to_disk``
KINDS = (
    "a pandas DataFrame, a datasets.Dataset, a map-style torch Dataset of dicts, a source of "
    "po.sources, or the path of a file or folder"
)
OR_SHARE = ", or a share in [0, 1) of the training rows"


class Dataset:
    """A data set: its rows, which columns are inputs, and how it is split.

    Args:
        train: the training rows: a pandas DataFrame; a ``datasets.Dataset``; a map-style torch
            Dataset whose items are dicts {column: value}; a source of ``po.sources``; or the path
            of a csv, tsv, json, jsonl, parquet, arrow or npz file, or of a folder of pictures or
            recordings. A ``datasets.DatasetDict`` has the other splits with it.
        valid, test: rows of the same kinds; or a share in [0, 1) of the training rows, drawn so
            that each split gets its part of every label, 0 for none; or None. Where both are None,
            and the data have no column ``split`` of the words train, valid and test, each is 0.1.
            ``test=None`` beside a ``valid`` is no test rows; ``valid=None`` beside a ``test`` 0.1.
        inputs: {modality: column} with the modalities text, image and audio; two columns are a pair
            of texts, {"array": column, "rate": column or number} are samples. None: the columns
            named text, image and audio.
        split: in place of ``valid`` and ``test``: {"column": name} of a column that says each row's
            split, or {"train": 0.8, "valid": 0.1, "test": 0.1}; with "group": column, and
            "stratify": column or columns, [] for none. Without it rows are stratified by the data
            module's first task: give it where runs of other tasks shall have the same rows.
        streaming: leave the inputs where they are until a batch asks for them.

    A cell of text is a str, bytes, a list of words or a pair; of an image an array (H, W) or
    (H, W, 3) uint8, a tensor (H, W), (1, H, W) or (3, H, W) of uint8 or of numbers from 0 to 1, a
    picture of Pillow, a path, or a file's content; of audio a path, a file's content, (samples,
    rate), or {"array", "sampling_rate"}. None and NaN are an empty cell.

    Raises:
        UsageError: an argument is none of this.
        PollinateError: rows can't be read: there are none, an item is no dict, a file isn't there.

    Attributes:
        source: where all rows come from.

    Examples:
        >>> import pandas as pd, pollinate as po
        >>> reviews = pd.DataFrame({"review": ["good tea", "bad soup"] * 10, "stars": [5, 1] * 10})
        >>> data = po.Dataset(reviews, valid=0.2, inputs={"text": "review"})
        >>> data.split
        {'train': 0.8, 'valid': 0.2}
        >>> po.Dataset("reviews.csv", inputs={"text": "review"}).source.location
        'reviews.csv'
    """

    def __init__(
        self,
        train: object,
        valid: object = None,
        test: object = None,
        *,
        inputs: Mapping[str, InputColumns] | None = None,
        split: Mapping[str, Any] | None = None,
        streaming: bool = False,
    ) -> None:
        given = {"train": train, "valid": valid, "test": test}
        if is_a(train, "datasets", "DatasetDict"):
            given = named_splits(train, valid, test)
        parts = {
            name: rows for name, rows in given.items() if rows is not None and not is_number(rows)
        }
        shares = {name: share(name, rows) for name, rows in given.items() if is_number(rows)}
        if "train" not in parts:
            raise UsageError(f"train must be {KINDS}, got {train!r:.60}")
        sources = {n: as_source(rows, n, dict(inputs or {})) for n, rows in parts.items()}
        self.source = sources["train"] if len(sources) == 1 else Joined(sources)
        self.inputs = named_inputs(sources, inputs)
        self.streaming = streaming
        if split is not None and (len(sources) > 1 or shares):
            raise UsageError(
                "split must be left out where valid or test is given; choose one of the two ways"
            )
        self.split = chosen_split(sources, shares) if split is None else checked(split)

    @property
    def split_columns(self) -> set[str]:
        """Columns that may say how rows are split."""
        if self.split is None:
            return {OWN_SPLIT}
        given = [self.split.get(key) or [] for key in ("column", "group", "stratify")]
        return {name for one in given for name in columns_named(one)}

    def split_of(self, table: SourceTable) -> Mapping[str, Any]:
        """Return how the rows are split; see ``datamodules.splits.split_rows``."""
        if self.split is not None:
            return self.split
        drawn = {"valid": SHARE, "test": SHARE}
        if SPLIT_COLUMN in table.columns:
            return {"files": {}, **drawn}
        words = set(map(str, table.columns.get(OWN_SPLIT, ())))
        if words and all(split_name(word) is not None for word in words):
            return {"column": OWN_SPLIT, **drawn}
        return {"train": 1 - sum(drawn.values()), **drawn}


def share(name: str, value: Any) -> float:
    if name == "train" or not 0 <= value < 1:
        raise UsageError(
            f"{name} must be {KINDS}{'' if name == 'train' else OR_SHARE}, got {value}"
        )
    return float(value)


def named_splits(train: Any, valid: object, test: object) -> dict[str, object]:
    """Return the splits of a DatasetDict."""
    found: dict[str, object] = {"train": None, "valid": valid, "test": test}
    for word, rows in train.items():
        name = split_name(word)
        if name is None:
            raise UsageError(
                f"the splits of a DatasetDict must be called train, valid or test, got {word!r}; "
                "give them one by one: Dataset(train=splits['NAME'], valid=...)"
            )
        if found[name] is not None:
            raise UsageError(
                f"{name} is given twice, and in the DatasetDict as {word!r}; leave one out"
            )
        found[name] = rows
    return found


def chosen_split(
    sources: Mapping[str, Source], shares: Mapping[str, float]
) -> Mapping[str, Any] | None:
    """Return how rows are split by what is given; None: as the table says.

    Args:
        sources: {split: its rows}, of the training split at least.
        shares: {split: its share of the training rows}.
    """
    known = {*sources, *shares}
    drawn = dict(shares) if "valid" in known else {"valid": SHARE, **shares}
    drawn = {name: value for name, value in drawn.items() if value > 0}
    if sum(drawn.values()) >= 1:
        given = listing(map(str, drawn.values()))
        raise UsageError(f"valid and test must leave training rows, got shares of {given}")
    if len(sources) > 1:
        return {"files": {name: name for name in sources}, **drawn}
    if not shares:
        return None
    return {"train": 1 - sum(drawn.values()), **drawn}


def checked(split: Mapping[str, Any]) -> dict[str, Any]:
    """Return a split that follows the rules."""
    found = dict(split)
    raise_all(list(split_problems("split", found)))
    return found


def named_inputs(
    sources: Mapping[str, Source], inputs: Mapping[str, InputColumns] | None
) -> dict[str, InputColumns]:
    """Return {modality: its column or columns}."""
    train = sources["train"]
    if inputs is None:
        known = train.column_names if isinstance(train, PythonSource) else []
        inputs = {name: name for name in MODALITIES if name in known}
        if not inputs:
            raise UsageError(
                "inputs must say which columns are read, such as {'text': 'review'}"
                + (f"; columns: {listing(known)}" if known else "")
            )
    found = {m: list(given) if isinstance(given, tuple) else given for m, given in inputs.items()}
    for modality, given in found.items():
        if modality in INPUT_FORMS and not is_input(modality, given):
            raise UsageError(f"inputs[{modality!r}] must be {INPUT_FORMS[modality]}, got {given!r}")
    for name, source in sources.items():
        if isinstance(source, PythonSource):
            require_input_columns(name, source.column_names, found)
    return found


def require_input_columns(part: str, known: list[str], inputs: Mapping[str, InputColumns]) -> None:
    """Check that the rows of a split have the columns that are read."""
    for modality, given in inputs.items():
        for column in columns_named(given):
            if column not in known:
                raise UsageError(
                    f"inputs[{modality!r}] names the column {column!r}, which {part} lacks"
                    f"{hint(column, known, 'columns')}"
                )


def as_source(rows: object, name: str, inputs: Mapping[str, InputColumns]) -> Source:
    """Return what reads the rows that a user gives.

    Args:
        rows: see ``Dataset``.
        name: of the split.
        inputs: {modality: its column or columns}.
    """
    if isinstance(rows, Source):
        return rows
    if isinstance(rows, str | Path):
        return file_source(rows, name, inputs)
    if is_a(rows, "pandas", "DataFrame"):
        return Frame(rows, name)  # type: ignore[arg-type]  # it is one
    if is_a(rows, "datasets", "Dataset") and rows.format["type"] != "custom":  # type: ignore[attr-defined]  # it has
        return HuggingFace(rows, name)
    if isinstance(rows, MapStyle) and not isinstance(rows, Mapping | bytes):
        pictures = columns_named(inputs.get("image", "image"))
        known = is_a(rows, "datasets", "Dataset")  # with a transform of the user's
        features = rows.features.to_dict() if known else {}  # type: ignore[attr-defined]  # it has
        return Items(rows, name, pictures, class_names_of(features))
    advice = (
        "; for a dict of columns, pandas.DataFrame(columns)" if isinstance(rows, Mapping) else ""
    )
    raise UsageError(f"{name} must be {KINDS}, got {type(rows).__name__}{advice}")


FILES: dict[str, Any] = {
    ".csv": Csv,
    ".tsv": lambda path: Csv(path, delimiter="\t"),
    ".json": Json,
    ".jsonl": Json,
    ".ndjson": Json,
    ".parquet": Parquet,
    ".arrow": Arrow,
    ".npz": Npz,
}


def file_source(path: str | Path, name: str, inputs: Mapping[str, InputColumns]) -> Source:
    """Return the source that reads a file, by its name's ending, or a folder."""
    first = matching_paths(str(path))[0]
    if first.is_dir():
        if any((first / file).is_file() for file in SAVED):
            return Arrow(str(path))
        return (AudioFolder if "audio" in inputs and "image" not in inputs else ImageFolder)(
            str(path)
        )
    kind = FILES.get(first.suffix.lower())
    if kind is None:
        raise UsageError(
            f"{name}: a file's name must end in {listing(FILES)}, got {path}; or choose a source: "
            "po.sources.Csv(path)"
        )
    source: Source = kind(str(path))
    return source
