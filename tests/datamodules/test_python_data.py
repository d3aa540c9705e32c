"""Data of one's own in Python: frames, data sets of Hugging Face and of PyTorch, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset

from datamodules.cache import Cache
from datamodules.data_errors import DataErrorPolicy
from datamodules.dataset import Dataset
from datamodules.mixed_datamodule import MixedDataModule
from datamodules.modalities.audio import AudioModality, decode_audio
from datamodules.modalities.defaults import MODALITIES
from datamodules.modalities.image import ImageModality, decode_image
from datamodules.modalities.text import TextModality
from datamodules.samplers.temperature import Temperature
from lightning_modules.tasks.base import Task
from lightning_modules.tasks.classification import Classification
from lightning_modules.tasks.multilabel import Multilabel
from lightning_modules.tasks.ordinal import Ordinal
from lightning_modules.tasks.regression import Regression
from lightning_modules.tasks.retrieval import Retrieval
from lightning_modules.tasks.segmentation import Segmentation
from lightning_modules.tasks.tagging import Tagging
from pipeline.configuration.schema import AudioConfig, ImageConfig, TextConfig
from pollinate.errors import PollinateError, UsageError
from tests.tiny import TinySource, labels, multitask, pixels, trainer, words

TEXT = {"text": "text"}
IMAGE = {"image": "image"}


def frame(count: int = 40, **columns: Any) -> pd.DataFrame:
    """Texts with a label."""
    return pd.DataFrame({"text": words(count), "label": labels(count), **columns})


class Items(torch.utils.data.Dataset[Any]):
    """Grey pictures as numbers from 0 to 1, with a label; counts what was read."""

    def __init__(self, count: int = 24, change: Callable[[int, dict[str, Any]], Any] | None = None):
        self.images = torch.from_numpy(pixels(count)).float() / 255
        self.change = change or (lambda row, item: item)
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Any:
        self.read.append(row)
        item = {"image": self.images[row][None], "label": torch.tensor(row % 3)}
        return self.change(row, item)


def small(
    given: Mapping[str, Dataset] | Dataset, tasks: Mapping[str, Task] | None = None, **options: Any
) -> MixedDataModule:
    """A data module with small inputs."""
    given = {"own": given} if isinstance(given, Dataset) else given
    used = {modality for spec in given.values() for modality in spec.inputs}
    sizes = {"text": {"vocab_size": 300, "max_length": 8}, "image": {"size": [8, 8], "channels": 1}}
    modalities = {name: own for name, own in sizes.items() if name in used}
    tasks = tasks or {"kind": Classification(target="label")}
    return MixedDataModule(given, tasks, modalities=modalities, **options)


def ready(*args: Any, **options: Any) -> MixedDataModule:
    module = small(*args, **options)
    module.setup()
    return module


def refusal(*args: Any, **options: Any) -> str:
    """What stops a data module of these data sets."""
    with pytest.raises(PollinateError) as caught:
        ready(*args, **options)
    return str(caught.value)


def sizes(module: MixedDataModule) -> dict[str, int]:
    return {split: sum(p.size for p in own.values()) for split, own in module.parts.items()}


FILES = ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "saved", "a.npz")


def write_files(folder: Path) -> dict[str, Path]:
    """The same rows in files of every kind."""
    rows = frame(20)
    rows.to_csv(folder / "a.csv", index=False)
    rows.to_csv(folder / "a.tsv", index=False, sep="\t")
    rows.to_json(folder / "a.jsonl", orient="records", lines=True)
    rows.to_json(folder / "a.json", orient="records")
    rows.to_parquet(folder / "a.parquet")
    datasets.Dataset.from_pandas(rows).save_to_disk(str(folder / "saved"))
    np.savez(folder / "a.npz", text=np.array(rows["text"], str), label=np.array(rows["label"], str))
    return {name: folder / name for name in FILES}


def policy(folder: Path, **options: Any) -> DataErrorPolicy:
    return DataErrorPolicy(cache=Cache(folder / "cache"), **options)


# what rows may be


@pytest.mark.parametrize(
    "rows",
    [
        frame(20),
        datasets.Dataset.from_pandas(frame(20)),
        frame(20).to_dict("records"),
        Subset(frame(40).to_dict("records"), range(20)),  # type: ignore[arg-type]  # a list of dicts
        TinySource(text=words(20), label=labels(20)),
    ],
    ids=["DataFrame", "datasets.Dataset", "list of dicts", "Subset", "source"],
)
def test_the_same_rows_of_any_kind_give_the_same_batches(rows: Any) -> None:
    found = ready(Dataset(rows, inputs=TEXT))
    expected = ready(Dataset(frame(20), inputs=TEXT))
    assert sizes(found) == {"train": 16, "valid": 2, "test": 2}
    for one, other in zip(found.train_dataloader(), expected.train_dataloader(), strict=True):
        own, same = one.batches["own"], other.batches["own"]
        assert own.inputs["text"].equal(same.inputs["text"])
        assert own.targets["kind"].equal(same.targets["kind"])


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "saved", "a.npz"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read_by_its_ending(
    name: str, kind: type[str] | type[Path], tmp_path: Path
) -> None:
    path = write_files(tmp_path)[name]
    module = ready(Dataset(kind(path), inputs=TEXT), policy=policy(tmp_path))
    assert sizes(module) == {"train": 16, "valid": 2, "test": 2}
    assert module.tasks["kind"].state_dict()["classes"] == ["no", "yes"]


def test_a_folder_of_pictures_has_its_own_splits(tmp_path: Path) -> None:
    for row, image in enumerate(pixels(12)):
        file = tmp_path / ("test" if row > 9 else "train") / "ab"[row % 2] / f"{row}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    module = ready(Dataset(tmp_path, inputs=IMAGE), policy=policy(tmp_path))
    assert sizes(module) == {"train": 9, "valid": 1, "test": 2}
    chosen = ready(Dataset(tmp_path, 0.5, 0.0, inputs=IMAGE), policy=policy(tmp_path))
    assert sizes(chosen) == {"train": 6, "valid": 6, "test": 0}


def test_python_and_files_stand_side_by_side(tmp_path: Path) -> None:
    files = write_files(tmp_path)
    own = Dataset(frame(20), valid=files["a.csv"], test=files["a.parquet"], inputs=TEXT)
    other = Dataset(Items(), inputs=IMAGE)
    tasks = {
        "kind": Classification("own", "label"),
        "shape": Classification("other", "label"),
        "both": Classification(("own", "other"), "label"),
    }
    module = ready({"own": own, "other": other}, tasks, policy=policy(tmp_path))
    assert {s: {n: p.size for n, p in own.items()} for s, own in module.parts.items()} == {
        "train": {"own": 20, "other": 19},
        "valid": {"own": 20, "other": 3},
        "test": {"own": 20, "other": 2},
    }
    batch = next(iter(module.train_dataloader()))
    assert batch.sizes["own"] + batch.sizes["other"] == 64
    assert batch.labelled["both"] == 64
    classes = module.tasks["both"].state_dict()["classes"]
    assert classes == ["0", "1", "2", "no", "yes"]


# splits


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (32, 4, 4)),
        ({"valid": 0.25}, (30, 10, 0)),
        ({"test": 0.25}, (26, 4, 10)),
        ({"valid": 0.2, "test": 0.3}, (20, 8, 12)),
        ({"valid": 0.0, "test": 0.0}, (40, 0, 0)),
        ({"valid": frame(6)}, (40, 6, 0)),
        ({"valid": frame(6), "test": 0.25}, (30, 6, 10)),
        ({"test": frame(6)}, (36, 4, 6)),
        ({"valid": frame(6), "test": frame(7)}, (40, 6, 7)),
        ({"split": {"train": 0.5, "valid": 0.25, "test": 0.25}}, (20, 10, 10)),
        ({"split": {"train": 1}}, (40, 0, 0)),
        ({"split": {"column": "part"}}, (20, 10, 10)),
    ],
)
def test_splits(given: dict[str, Any], expected: tuple[int, int, int]) -> None:
    part = ["train", "train", "valid", "test"] * 10
    found = sizes(ready(Dataset(frame(part=part), **given, inputs=TEXT)))
    assert tuple(found.values()) == expected


def test_a_column_called_split_says_the_split() -> None:
    words_of_it = ["train", "train", "val", "test"] * 10
    assert sizes(ready(Dataset(frame(split=words_of_it), inputs=TEXT))) == {
        "train": 20,
        "valid": 10,
        "test": 10,
    }
    two = frame(split=["training", "eval"] * 20)
    two["label"] = labels(40, "aabb")
    assert sizes(ready(Dataset(two, inputs=TEXT))) == {"train": 18, "valid": 2, "test": 20}
    other = frame(split=["left", "right"] * 20)
    assert sizes(ready(Dataset(other, inputs=TEXT)))["train"] == 32


def test_shares_are_stratified_and_seeded() -> None:
    rows = frame(100, label=["rare"] * 10 + ["often"] * 90)
    first, again, other = (
        ready(Dataset(rows, valid=0.2, test=0.2, inputs=TEXT), split_seed=seed)
        for seed in (0, 0, 1)
    )
    for split, rare in {"train": 6, "valid": 2, "test": 2}.items():
        chosen = first.loaded["own"].rows[split]
        assert (chosen < 10).sum() == rare
        assert (chosen == again.loaded["own"].rows[split]).all()
    assert (first.loaded["own"].rows["test"] != other.loaded["own"].rows["test"]).any()


def test_a_dataset_dict_has_its_splits() -> None:
    parts = {name: datasets.Dataset.from_pandas(frame(10)) for name in ("train", "validation")}
    both = datasets.DatasetDict(parts)
    assert sizes(ready(Dataset(both, inputs=TEXT))) == {"train": 10, "valid": 10, "test": 0}
    only = datasets.DatasetDict({"train": parts["train"]})
    assert sizes(ready(Dataset(only, inputs=TEXT))) == {"train": 8, "valid": 1, "test": 1}
    with pytest.raises(UsageError, match="valid is given twice"):
        Dataset(both, valid=frame(), inputs=TEXT)
    odd = datasets.DatasetDict({"train": parts["train"], "unsupervised": parts["train"]})
    with pytest.raises(UsageError, match="called train, valid or test, got 'unsupervised'"):
        Dataset(odd, inputs=TEXT)


# cells


def grey(*rows: Sequence[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (torch.tensor([[[0.0, 1.0], [0.5, 0.2]]]), grey([0, 255], [128, 51])[..., None]),
        (torch.tensor([[0.0, 1.0], [0.5, 0.2]], dtype=torch.float64), grey([0, 255], [128, 51])),
        (torch.tensor([[0, 255]], dtype=torch.uint8), grey([0, 255])),
        (
            torch.arange(12, dtype=torch.uint8).view(3, 2, 2),
            np.arange(12).reshape(3, 4).T.reshape(2, 2, 3),
        ),
        (Image.fromarray(grey([0, 255], [7, 9])), grey([0, 255], [7, 9])),
        (Image.new("RGBA", (1, 1), (0, 0, 0, 0)), np.full((1, 1, 3), 255)),
        (Image.new("1", (1, 1), 1), grey([255])),
    ],
)
def test_pictures_of_python(picture: Any, expected: np.ndarray) -> None:
    found = decode_image(picture)
    assert found.dtype == np.uint8
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("picture", "problem"),
    [
        (torch.tensor([[0.0, 2.0]]), "must hold numbers from 0 to 1, got 0 to 2; leave out normal"),
        (torch.tensor([[-1.0, 0.0]]), "must hold numbers from 0 to 1, got -1 to 0"),
        (torch.tensor([[float("nan")]]), "must hold numbers from 0 to 1, got nan to nan"),
        (torch.zeros(4, 4, 3), "1 or 3 channels x height x width, got 4 x 4 x 3; permute it"),
        (
            torch.zeros(1, 1, dtype=torch.int64),
            "must be uint8 or numbers from 0 .* torch.int64",
        ),
        (torch.zeros(0, 3), "must be .height, width."),
        (np.zeros((2, 2)), "must be whole numbers from 0 to 255 .uint8., .* got float64 2 x 2"),
        (np.zeros((3, 9, 9), np.uint8), "height x width x 3 for colour, got uint8 3 x 9 x 9"),
        (
            Image.fromarray(np.zeros((2, 2), np.float32)),
            "aren't of 8 bits .mode F, 0 to 0.; say what is black",
        ),
        (Image.fromarray(np.array([[-1]], np.int32)), "mode I, -1 to -1"),
        ({"pixels": 1}, "must be a picture's path or content, got {'pixels': 1}"),
    ],
)
def test_pictures_that_could_mean_several_things_are_refused(picture: Any, problem: str) -> None:
    with pytest.raises(PollinateError, match=problem):
        decode_image(picture)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (torch.tensor([0.0, 0.5]), [0.0, 0.5]),
        (torch.tensor([[0.0, 0.5, 0.25], [0.0, 0.0, 0.25]]), [0.0, 0.25, 0.25]),  # channels first
        (np.array([[0.0, 0.5], [1.0, 0.0]]), [0.25, 0.5]),  # channels last
    ],
)
def test_samples_of_python(samples: Any, expected: list[float]) -> None:
    found, rate = decode_audio({"array": samples, "sampling_rate": 8000, "path": None})
    assert (found.tolist(), rate) == (expected, 8000)


@pytest.mark.parametrize("samples", [np.zeros((1, 100)), torch.zeros(100, 3)])
def test_samples_that_lie_the_other_way_are_refused(samples: Any) -> None:
    with pytest.raises(PollinateError, match="more channels than samples; transpose it"):
        decode_audio((samples, 8000))


def test_an_audio_cell_with_samples_and_a_path_is_its_samples() -> None:
    waves = [np.sin(np.arange(800) * (row + 1)).astype(np.float32) for row in range(20)]
    cells = [{"array": wave, "sampling_rate": 8000, "path": "gone.wav"} for wave in waves]
    rows = pd.DataFrame({"audio": cells, "label": labels(20)})
    module = ready(Dataset(rows, inputs={"audio": "audio"}))
    assert sizes(module) == {"train": 16, "valid": 2, "test": 2}


@pytest.mark.parametrize("cell", [torch.tensor([1, 2]), np.array([1, 2]), {"a": 1}, {"a"}])
def test_a_text_that_is_none_is_refused(cell: Any) -> None:
    rows = [{"text": text, "label": "ab"[row % 2]} for row, text in enumerate(words(20))]
    rows[3]["text"] = cell
    assert (
        f"train[3], column text: must be a text or a list of words, got {type(cell).__name__}"
        in (refusal(Dataset(rows, inputs=TEXT)))
    )


MISSING = [None, float("nan"), "", "  ", np.float32("nan"), pd.NA, pd.NaT]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
@pytest.mark.parametrize("kind", [Classification, Ordinal, Regression, Multilabel])
@pytest.mark.parametrize("form", ["frame", "items"])
def test_labels_may_be_missing(missing: Any, kind: type[Task], form: str) -> None:
    values: list[Any] = [1, 2, 3, 4] * 10
    values[5] = missing
    rows = pd.DataFrame({"text": words(40), "label": pd.Series(values, dtype=object)})
    given: Any = rows if form == "frame" else rows.to_dict("records")
    module = ready(Dataset(given, inputs=TEXT), {"kind": kind(target="label")})
    part = module.loaded["own"].rows
    for split, own in module.parts.items():
        present = own["own"].present["kind"].numpy()
        assert part[split][~present].tolist() == ([5] if 5 in part[split] else [])


def test_numbers_of_torch_and_numpy_are_labels() -> None:
    values = [torch.tensor(row % 2) for row in range(10)] + [np.int64(row % 2) for row in range(10)]
    rows = [{"text": t, "label": v} for t, v in zip(words(20), values, strict=True)]
    module = ready(Dataset(rows, inputs=TEXT))
    assert module.tasks["kind"].state_dict()["classes"] == ["0", "1"]


@pytest.mark.parametrize(
    "cell", [torch.tensor([1, 0]), np.array([1, 0]), [1, 0], {1}, Image.new("L", (1, 1))]
)
def test_several_labels_are_not_one(cell: Any) -> None:
    rows = [{"text": text, "label": "ab"[row % 2]} for row, text in enumerate(words(20))]
    rows[3]["label"] = cell
    assert "train[3], column label: must be one label, got" in refusal(Dataset(rows, inputs=TEXT))


def test_lists_and_arrays_are_tags_and_several_labels() -> None:
    rows = [
        {"text": ["two", f"n{row}"], "tags": np.array(["O", "B-x"]), "marks": ["a", "bc"[row % 2]]}
        for row in range(20)
    ]
    tasks = {"slots": Tagging(target="tags"), "marks": Multilabel(target="marks")}
    module = ready(Dataset(rows, inputs=TEXT), tasks)
    assert module.tasks["slots"].state_dict()["classes"] == ["O", "B-x"]
    assert module.tasks["marks"].state_dict()["classes"] == ["a", "b", "c"]
    text = module.modalities["text"]
    assert isinstance(text, TextModality)
    assert text.words
    batch = next(iter(module.train_dataloader())).batches["own"]
    assert batch.words["text"].shape == (64, 2)


@pytest.mark.parametrize("form", [torch.from_numpy, Image.fromarray, lambda mask: mask])
def test_masks_of_python(form: Callable[[np.ndarray], Any]) -> None:
    rows = [
        {"image": image, "mask": form(np.full((8, 8), row % 2, np.uint8))}
        for row, image in enumerate(pixels(20))
    ]
    module = ready(Dataset(rows, inputs=IMAGE), {"parts": Segmentation(target="mask")})
    part = module.parts["train"]["own"]
    found = part.batch(np.arange(part.size)).targets["parts"]
    assert found[:, 0, 0].tolist() == [row % 2 for row in module.loaded["own"].rows["train"]]


def test_paths_of_python_may_lead_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    files: list[Any] = [tmp_path / f"{row}.png" for row in range(20)]
    for file, image in zip(files, pixels(20), strict=True):
        Image.fromarray(image).save(file)
    monkeypatch.chdir(tmp_path / "in")
    given = [str(file) if row % 2 else Path(f"../{file.name}") for row, file in enumerate(files)]
    given[4] = "../4.png"
    rows = pd.DataFrame({"image": given, "label": labels(20)})
    module = ready(Dataset(rows, inputs=IMAGE), policy=policy(tmp_path))
    part = module.parts["train"]["own"]
    expected = pixels(20)[module.loaded["own"].rows["train"]]
    found = part.batch(np.arange(part.size)).inputs["image"][:, 0]
    assert torch.equal((found * 255).round().byte(), torch.from_numpy(expected))
    rows.loc[7, "image"] = "../gone.png"
    message = refusal(Dataset(rows, inputs=IMAGE), policy=policy(tmp_path))
    assert f"train.iloc[7], column image: there is no file {tmp_path}" in message


def test_paths_of_files_begin_in_their_own_folders(tmp_path: Path) -> None:
    for part, first in (("one", 0), ("two", 10)):
        (tmp_path / part).mkdir()
        for row in range(10):
            Image.fromarray(pixels(20)[first + row]).save(tmp_path / part / f"{row}.png")
        table = {"image": [f"{row}.png" for row in range(10)], "label": labels(10)}
        pd.DataFrame(table).to_csv(tmp_path / part / "rows.csv", index=False)
    spec = Dataset(tmp_path / "one/rows.csv", tmp_path / "two/rows.csv", inputs=IMAGE)
    module = ready(spec, policy=policy(tmp_path))
    for split, own in (("train", pixels(20)[:10]), ("valid", pixels(20)[10:])):
        found = module.parts[split]["own"].batch(np.arange(10)).inputs["image"][:, 0]
        assert torch.equal((found * 255).round().byte(), torch.from_numpy(own))


# data sets of PyTorch


def test_a_transform_of_hugging_face_is_applied() -> None:
    def shout(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**rows, "text": [text.upper() for text in rows["text"]]}

    rows = datasets.Dataset.from_pandas(frame(20)).with_transform(shout)
    module = ready(Dataset(rows, inputs=TEXT))
    assert list(module.loaded["own"].inputs["text"]) == [text.upper() for text in words(20)]


def test_items_are_read_once_and_in_order() -> None:
    items = Items()
    module = ready(Dataset(items, inputs=IMAGE))
    assert items.read == [0, *range(24)]  # the first once more for its keys
    for _ in module.train_dataloader():
        pass
    assert len(items.read) == 25


def test_items_keep_numbers_whose_meaning_the_modality_knows() -> None:
    items = [{"image": torch.full((1, 2, 2), value), "label": value > 0} for value in (-0.5, 0.25)]
    data = MixedDataModule(
        {"own": Dataset(items * 10)},
        {"kind": Classification(target="label")},
        modalities={"image": {"size": [2, 2], "channels": 1, "value_range": [-1, 1]}},
    )
    data.setup()
    found = data.parts["train"]["own"].stores["image"].rows(np.arange(2))
    assert torch.allclose(found[:, 0, 0, 0] * 255, torch.tensor([64.0, 159.0]))


def test_streamed_items_are_read_when_a_batch_asks_for_them() -> None:
    items = Items()
    module = ready(Dataset(items, inputs=IMAGE, streaming=True))
    kept = ready(Dataset(Items(), inputs=IMAGE))
    items.read.clear()
    part, same = (one.parts["train"]["own"] for one in (module, kept))
    assert part.streamed
    batch, other = part.batch(np.array([3, 1])), same.batch(np.array([3, 1]))
    assert items.read == module.loaded["own"].rows["train"][[3, 1]].tolist()
    assert batch.inputs["image"].equal(other.inputs["image"])
    assert batch.targets["kind"].equal(other.targets["kind"])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_frame_gives_the_same_rows(workers: int) -> None:
    module = ready(Dataset(frame(), inputs=TEXT, streaming=True), workers=workers)
    kept = ready(Dataset(frame(), inputs=TEXT))
    rows = np.arange(8)
    one, other = (m.parts["train"]["own"].batch(rows) for m in (module, kept))
    assert one.inputs["text"].equal(other.inputs["text"])
    assert sum(batch.sizes["own"] for batch in module.train_dataloader()) == 64


def broken(row: int, item: dict[str, Any]) -> Any:
    return item["image"][5][5][5] if row == 7 else item


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda row, item: (item["image"], item["label"]),
            "train[0] must be a dict {column: value}, got tuple; return for example",
        ),
        (
            lambda row, item: None if row == 7 else item,
            "train[7] must be a dict {column: value}, got NoneType",
        ),
        (
            lambda row, item: {**item, "extra": 1} if row == 7 else item,
            "the keys of train[7] must be those of train[0], image, label, got image, label, "
            "extra; give every item the same, with None where there is nothing",
        ),
        (
            lambda row, item: {"image": item["image"]} if row == 7 else item,
            "the keys of train[7] must be those of train[0], image, label, got image; give every",
        ),
        (lambda row, item: {0: item["image"]}, "the keys of train[0] must be texts, ... got 0"),
        (lambda row, item: {}, "the keys of train[0] must be texts, the columns' names, got none"),
        (
            broken,
            "train[7] raised IndexError: ... mend __getitem__ of Items, or leave",
        ),
        (
            lambda row, item: {**item, "image": "a b"} if row == 7 else item,
            "train[7] ... : there is no file",
        ),
        (
            lambda row, item: {**item, "image": item["image"] * 300} if row == 7 else item,
            "train[7] ... : a picture that is a tensor of torch.float32 must hold numbers",
        ),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_wrong_items_are_named(change: Any, message: str, streaming: bool) -> None:
    def all_read() -> Iterator[Any]:
        module = ready(Dataset(Items(change=change), inputs=IMAGE, streaming=streaming))
        for split in module.parts:
            yield from module.evaluation_loader(split)

    with pytest.raises(PollinateError) as caught:
        list(all_read())
    assert all(part in str(caught.value) for part in message.split(" ... ")), str(caught.value)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield {"text": "a"}


class Lengthless(Items):
    def __len__(self) -> int:
        raise NotImplementedError("no length")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (TensorDataset(torch.zeros(3, 2)), r"train\[0\] must be a dict .* got tuple"),
        (Endless(), "train must be a pandas DataFrame, .* map-style torch Dataset .* got Endless"),
        (Lengthless(), "train must have a length, got a Lengthless without: no length"),
        ([], "train must have at least one item, got an empty data set"),
        (frame(0), "train must have at least one row, got an empty DataFrame"),
        (datasets.Dataset.from_dict({"text": []}), "at least one row, got an empty data set"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "must differ, got text twice"),
        ({"text": ["a"]}, r"train must be .* got dict; for a dict of columns, pandas.DataFrame"),
        (5.0, "train must be a pandas DataFrame, .*, got 5"),
        (None, "train must be a pandas DataFrame, .*, got None"),
        (object(), "train must be a pandas DataFrame, .* got object"),
        ("gone.csv", "there is no file gone.csv"),
        (__file__, r"a file's name must end in .csv, .* or choose a source: po.sources.Csv"),
    ],
)
def test_rows_of_no_kind_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(PollinateError, match=message):
        Dataset(rows, inputs=TEXT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"inputs": {"text": "txet"}},
            r"names the column 'txet', which train lacks; did you mean",
        ),
        ({"inputs": {"image": ["a", "b"]}}, r"inputs\['image'\] must be a column's name, got"),
        ({"inputs": TEXT, "valid": 1.5}, "valid must be .* or a share in .0, 1.* got 1.5"),
        (
            {"inputs": TEXT, "valid": 0.5, "test": 0.5},
            "must leave training rows, got shares of",
        ),
        ({"inputs": TEXT, "valid": 0.5, "split": {"column": "x"}}, "choose one of the two ways"),
        ({"inputs": TEXT, "split": {"colum": "x"}}, "split has no key 'colum'"),
        ({"inputs": TEXT, "split": {"train": 0.5, "valid": 0.1, "test": 0.1}}, "must sum to 1"),
        ({"inputs": TEXT, "valid": pd.DataFrame({"a": ["b"]})}, "column 'text', which valid lacks"),
    ],
)
def test_arguments_are_checked_at_construction(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Dataset(frame(), **given)


def test_inputs_are_the_columns_of_the_modalities_names() -> None:
    assert Dataset(frame()).inputs == {"text": "text"}
    assert Dataset(Items()).inputs == {"image": "image"}
    with pytest.raises(UsageError, match=r"inputs must say which columns are read.* columns: body"):
        Dataset(pd.DataFrame({"body": ["a"]}))


# tasks and data sets


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (
            {"t": Classification("owm", "label")},
            "task t: there is no data set 'owm'; did you mean own",
        ),
        ({"t": Classification((), "label")}, "task t: the task has no data; name its data set"),
        ({"t": Classification("own")}, "task t: target is missing; name the column"),
        (
            {"t": Classification(target="lable")},
            "target of task t names the column 'lable'.* did you",
        ),
        ({"t": "label"}, r"tasks\['t'\] must be like po.tasks.Classification.*, got str"),
        ({}, "tasks must be {name: po.tasks.Classification"),
        ({"a.b": Classification(target="label")}, "tasks: a name is letters, digits and _"),
        ({"forward": Classification(target="label")}, "'forward' is reserved by PyTorch"),
    ],
)
def test_tasks_are_checked(tasks: Any, message: str) -> None:
    with pytest.raises(PollinateError, match=message):
        MixedDataModule({"own": Dataset(frame(), inputs=TEXT)}, tasks).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "temprature"}, "sampler must be one of po.samplers, .* got 'temprature'"),
        ({"workers": -1}, "workers must be >= 0, got -1"),
        ({"evaluation_batch_size": 0}, "evaluation_batch_size must be >= 1, got 0"),
        ({"label_fraction": 0.0}, r"label_fraction must be in \(0, 1\], got 0"),
        ({"modalities": {"image": {}}}, "modalities names 'image', which no data set has"),
        (
            {"modalities": {"text": {"vocab": 1}}},
            "text has no option 'vocab'; did you mean",
        ),
    ],
)
def test_options_are_checked(options: Any, message: str) -> None:
    tasks = {"t": Classification(target="label")}
    with pytest.raises(UsageError, match=message):
        MixedDataModule({"own": Dataset(frame(), inputs=TEXT)}, tasks, **options)


def test_data_sets_are_checked() -> None:
    tasks = {"t": Classification(target="label")}
    with pytest.raises(UsageError, match=r"datasets\['own'\] must be like po.Dataset.*DataFrame"):
        MixedDataModule({"own": frame()}, tasks)  # type: ignore[dict-item]  # what is tested
    smell = Dataset(frame(), inputs={"smell": "text"})
    with pytest.raises(UsageError, match="there is no modality 'smell'; modalities: audio, image"):
        MixedDataModule({"own": smell}, tasks)


def test_splits_with_other_columns_are_named() -> None:
    valid = frame(6).drop(columns="label")
    message = refusal(Dataset(frame(extra=1), valid=valid, inputs=TEXT))
    assert message == (
        "data set own: target of task kind names the column 'label', which valid lacks; add it "
        "there, with empty cells where nothing is known"
    )
    valid["label"] = None  # other columns than these are nobody's
    module = ready(Dataset(frame(extra=1), valid=valid, inputs=TEXT))
    assert "task kind has no labels in valid, so no score there" in module.notes


def test_labels_that_training_lacks_are_refused_or_dropped() -> None:
    spec = Dataset(frame(), valid=frame(6, label=["no", "yes", "maybe"] * 2), inputs=TEXT)
    message = refusal(spec)
    assert (
        "labels in valid that the training split lacks: maybe (first in valid.iloc[2])" in message
    )
    assert "unseen=drop" in message
    module = ready(spec, {"kind": Classification(target="label", unseen="drop")})
    present = module.parts["valid"]["own"].present["kind"].tolist()
    assert present == [True, True, False] * 2
    with pytest.raises(UsageError, match="unseen must be refuse or drop, got 'error'"):
        Classification(target="label", unseen="error")


def test_a_task_of_no_named_data_set_is_of_all() -> None:
    given = {"one": Dataset(frame(20), inputs=TEXT), "two": Dataset(frame(20), inputs=TEXT)}
    task = Classification(target="label")
    ready(given, {"kind": task})
    assert task.datasets == ("one", "two")
    again = Classification(target={"one": "label", "two": "label"}, unlabelled="two")
    ready(given, {"kind": again})
    assert again.datasets == ("one", "two")
    with pytest.raises(UsageError, match="dataset and unlabelled both name 'one'"):
        Classification("one", "label", unlabelled="one")
    part = Classification(target={"one": "label"})
    assert "target must name the column in data set 'two'" in refusal(given, {"kind": part})


def test_pairs_need_no_target() -> None:
    images = [None if row == 3 else image for row, image in enumerate(pixels(20))]
    rows = [{"text": t, "image": i} for t, i in zip(words(20), images, strict=True)]
    module = ready(Dataset(rows, inputs={**TEXT, **IMAGE}), {"pairs": Retrieval()})
    has = sum(int(own["own"].present["pairs"].sum()) for own in module.parts.values())
    assert has == 19
    with pytest.raises(UsageError, match="target must be left out"):
        Retrieval("own", "label")  # type: ignore[arg-type]  # what is tested


# defaults


def test_defaults_are_those_of_the_configurations() -> None:
    both = Dataset([{"text": "a", "image": pixels(1)[0], "label": 1}] * 10)
    module = MixedDataModule({"own": both}, {"kind": Classification(target="label")})
    assert isinstance(module.sampler, Temperature)
    assert (module.sampler.batch_size, module.sampler.temperature) == (64, 6.0)
    text, image = module.modalities["text"], module.modalities["image"]
    assert isinstance(text, TextModality)
    assert isinstance(image, ImageModality)
    assert (text.vocab_size, text.max_length, text.dropout) == (8000, 160, 0.0)
    assert (image.size, image.channels) == ((64, 64), 3)
    assert not image.random_keys()  # nothing changes at random that nobody asked for
    assert not AudioModality().random_keys()


def test_the_modalities_defaults_are_those_of_a_data_file() -> None:
    for name, node in {
        "image": ImageConfig(),
        "text": TextConfig(),
        "audio": AudioConfig(),
    }.items():
        own = MODALITIES[name]().arguments
        assert {key: own[key] for key in asdict(node)} == asdict(node)


def test_an_encoder_s_preprocessing_comes_before_or_after_setup() -> None:
    assets = {"image": {"size": [4, 4]}}
    tasks = {"kind": Classification(target="label")}
    modules = [MixedDataModule({"own": Dataset(Items())}, tasks) for _ in range(2)]
    modules[0].setup()
    assert modules[0].parts["train"]["own"].batch(np.arange(2)).inputs["image"].shape[-1] == 64
    first = modules[0].learnt_state()["digests"]
    for module in modules:
        module.use_preprocessing(assets)
        module.setup()
        assert module.parts["train"]["own"].batch(np.arange(2)).inputs["image"].shape[-1] == 4
        assert module.learnt_state()["modalities"]["image"] == {"assets": assets["image"]}
        assert module.learnt_state()["digests"] == first
    before = modules[0].parts
    modules[0].use_preprocessing(assets)  # nothing new
    assert modules[0].parts is before
    with pytest.raises(UsageError, match="an encoder reads 'text', which no data set has"):
        modules[0].use_preprocessing({"text": {}})


# digests


@pytest.mark.parametrize(
    "rows",
    [
        lambda text, label: pd.DataFrame({"text": text, "label": label}),
        lambda text, label: pd.DataFrame({"text": text, "label": label}).to_dict("records"),
        lambda text, label: datasets.Dataset.from_dict({"text": text, "label": label}),
    ],
    ids=["frame", "items", "datasets"],
)
def test_digests_are_of_the_content(rows: Any) -> None:
    def digest(text: list[str], label: list[Any]) -> str:
        return ready(Dataset(rows(text, label), inputs=TEXT)).loaded["own"].digest

    same = digest(words(20), labels(20))
    assert digest(words(20), labels(20)) == same
    assert digest(words(20, first=1), labels(20)) != same
    assert digest(words(20), labels(20, ("yes", "no"))) != same


def test_digests_are_of_pictures_whatever_holds_them() -> None:
    def digest(change: int, form: Callable[[np.ndarray], Any]) -> str:
        some = pixels(20)
        some[3, 2, 2] += change
        rows = pd.DataFrame({"image": [form(one) for one in some], "label": labels(20)})
        return ready(Dataset(rows, inputs=IMAGE)).loaded["own"].digest

    for form in (torch.from_numpy, Image.fromarray):
        assert digest(0, form) == digest(0, form) != digest(1, form)


def test_a_run_goes_on_with_the_same_frame_only() -> None:
    learnt = ready(Dataset(frame(), inputs=TEXT)).learnt_state()
    again = ready(Dataset(frame(), inputs=TEXT), learnt=learnt)
    assert again.learnt_state() == learnt
    changed = Dataset(frame(label=labels(40, ("yes", "no"))), inputs=TEXT)
    assert "the data of own changed" in refusal(changed, learnt=learnt)


# in a stock trainer


def test_loaders_need_no_trainer_and_no_setup() -> None:
    module = small(Dataset(frame(), valid=0.2, inputs=TEXT))
    batch = next(iter(module.train_dataloader()))
    assert len(batch.batches["own"].index) == 64
    validation = small(Dataset(frame(), valid=0.2, inputs=TEXT)).val_dataloader()
    assert sum(step.sizes["own"] for step in validation) == 8
    assert small(Dataset(frame(), valid=0.2, inputs=TEXT)).test_dataloader() == []


@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # Lightning's, with torch
@pytest.mark.filterwarnings("ignore:Total length of .list. across ranks is zero")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize(("valid", "test"), [(0.2, 0.2), (0.2, 0.0), (0.0, 0.0)])
def test_a_stock_trainer_skips_splits_without_rows(
    valid: float, test: float, tmp_path: Path
) -> None:
    module = ready(
        {"own": Dataset(frame(), valid, test, inputs=TEXT), "more": Dataset(Items(), valid, test)},
        {"kind": Classification("own", "label"), "shape": Classification("more", "label")},
    )
    model, stock = multitask(module), trainer(tmp_path, max_epochs=2)
    stock.fit(model, datamodule=module)
    assert stock.global_step == 2 * module.epoch_steps == 2
    stock.validate(model, datamodule=module, verbose=False)
    stock.test(model, datamodule=module, verbose=False)


def test_bad_rows_can_be_left_out() -> None:
    rows = frame()
    rows.loc[3, "text"] = None
    message = refusal(Dataset(rows, inputs=TEXT))
    assert "train.iloc[3], the input is empty" in message
    assert "policy=po.DataErrorPolicy(skip_bad_rows=True)" in message
    module = ready(Dataset(rows, inputs=TEXT), policy=DataErrorPolicy(skip_bad_rows=True))
    assert sum(sizes(module).values()) == 39
