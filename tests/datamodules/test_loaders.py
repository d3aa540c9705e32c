"""Steps by number, and loaders over them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from datamodules.batch import Batch, MixedBatch
from datamodules.loaders import (
    EvaluationLoader,
    EvaluationSteps,
    RankSlice,
    StepLoader,
    TrainingSteps,
)
from tests.tiny import images, labels, plan, ready, task, texts

COUNTS = {"notes": 5, "shapes": 3}


def training_steps(share: RankSlice, seed: int = 0) -> TrainingSteps:
    return TrainingSteps(ready().parts["train"], plan(COUNTS), seed, share)


def same(one: MixedBatch, other: MixedBatch) -> bool:
    """Say whether two batches hold the same, bit for bit."""
    return one.labelled == other.labelled and all(
        torch.equal(value, asdict(other.batches[name])[part][key])
        for name, batch in one.batches.items()
        for part, values in asdict(batch).items()
        if part != "index"
        for key, value in values.items()
    )


def rows_by_index(batches: list[Batch], modality: str) -> dict[int, list[float]]:
    """{row: its inputs}, without the padding of its batch."""
    found = {}
    for batch in batches:
        for row, values in zip(batch.index.tolist(), batch.inputs[modality], strict=True):
            flat = values.flatten().tolist()
            found[row] = [v for v in flat if v] if modality == "text" else flat
    return found


def test_counts_and_labels() -> None:
    step = training_steps(RankSlice())[0]
    assert {name: len(batch.index) for name, batch in step.batches.items()} == COUNTS
    assert step.labelled == COUNTS  # every row has a label


@pytest.mark.parametrize("step", [0, 1, 7, 1000])
def test_same_step_twice_is_the_same(step: int) -> None:
    steps = training_steps(RankSlice())
    first, _, again = steps[step], steps[step + 1], training_steps(RankSlice())[step]
    assert same(first, again)
    assert not same(first, steps[step + 1])


def test_random_numbers_of_torch_and_numpy_are_left_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    training_steps(RankSlice())[3]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_ranks_together_have_the_step(world: int, modality: str) -> None:
    name = {"text": "notes", "image": "shapes"}[modality]
    whole = training_steps(RankSlice())[4]
    parts = [training_steps(RankSlice(rank, world))[4] for rank in range(world)]
    found = rows_by_index([part.batches[name] for part in parts], modality)
    assert found == rows_by_index([whole.batches[name]], modality)
    assert all(part.labelled == whole.labelled for part in parts)


def test_every_pass_augments_anew() -> None:
    steps, size = training_steps(RankSlice()), len(ready().loaded["shapes"].rows["train"])
    passes = [rows_by_index([steps[k].batches["shapes"]], "image") for k in range(2 * size)]
    row = next(iter(passes[0]))
    seen = [tuple(found[row]) for found in passes if row in found]
    assert len(set(seen)) == len(seen) > 3


def test_another_seed_has_other_rows_and_augmentation() -> None:
    one, other = training_steps(RankSlice(), seed=0)[0], training_steps(RankSlice(), seed=1)[0]
    assert one.batches["notes"].index.tolist() != other.batches["notes"].index.tolist()
    part = ready().parts["train"]["shapes"]
    rows = np.arange(4)
    images = [part.augmented(rows, seed, rows * 0).inputs["image"] for seed in (0, 1)]
    assert not torch.equal(*images)


def test_labelled_counts_each_task() -> None:
    half = [label if row % 2 else None for row, label in enumerate(labels(40, "abba"))]
    module = ready(
        {"notes": texts(half=half), "shapes": images()},
        {"all": task("notes"), "some": task("notes", target="half"), "shape": task("shapes")},
    )
    steps = TrainingSteps(module.parts["train"], plan(COUNTS), 0, RankSlice())
    for number in range(6):
        step = steps[number]
        present = {t: int(m.sum()) for b in step.batches.values() for t, m in b.present.items()}
        assert step.labelled == present
        assert step.labelled["all"] == COUNTS["notes"]
        assert step.labelled["some"] < COUNTS["notes"]


def test_a_task_of_two_data_sets_counts_both() -> None:
    module = ready({"notes": texts(), "more": texts()}, {"tone": task("notes", "more")})
    steps = TrainingSteps(module.parts["train"], plan({"notes": 5, "more": 2}), 0, RankSlice())
    assert steps[0].labelled == {"tone": 7}


@pytest.mark.parametrize("world", [1, 2, 5])
def test_evaluation_has_every_row_once(world: int) -> None:
    parts = ready().parts["valid"]
    steps = [EvaluationSteps(parts, 4, RankSlice(rank, world)) for rank in range(world)]
    assert {len(one) for one in steps} == {sum(-(-part.size // 4) for part in parts.values())}
    seen: Counter[tuple[str, int]] = Counter()
    for one in steps:
        for number in range(len(one)):
            for name, batch in one[number].batches.items():
                seen.update((name, row) for row in batch.index.tolist())
    assert seen == Counter((name, row) for name, part in parts.items() for row in range(part.size))


def test_evaluation_does_not_augment() -> None:
    part = ready().parts["valid"]["shapes"]
    first = EvaluationSteps({"shapes": part}, 4, RankSlice())[0].batches["shapes"]
    assert torch.equal(first.inputs["image"], part.stores["image"].rows(part.rows[:4]))


both = pytest.mark.parametrize("workers", [0, 2])


class Numbers(Dataset):
    """Step k is k."""

    def __getitem__(self, step: int) -> int:
        return step


def loader(workers: int, position: int = 0) -> StepLoader:
    return StepLoader(Numbers(), plan({}, 6), position, num_workers=workers)  # type: ignore[arg-type]  # numbers stand for batches


@both
def test_epochs_go_on_from_each_other(workers: int) -> None:
    steps = loader(workers)
    assert [list(steps), list(steps)] == [list(range(6)), list(range(6, 12))]
    assert len(steps) == 6


@both
def test_position_counts_batches_handed_out(workers: int) -> None:
    steps = loader(workers)
    seen = []
    for step in islice(steps, 4):
        seen.append(step)
        assert steps.state_dict() == {"position": len(seen)}
    assert seen == [0, 1, 2, 3]


@both
def test_state_goes_on_with_the_next_step(workers: int) -> None:
    first, second = loader(workers), loader(workers)
    list(islice(first, 4))
    second.load_state_dict(first.state_dict())
    assert list(second) == [4, 5, 6, 7, 8, 9]


@both
def test_torch_random_numbers_are_left_alone(workers: int) -> None:
    before = torch.get_rng_state()
    list(loader(workers))
    assert torch.equal(before, torch.get_rng_state())


@both
def test_evaluation_starts_anew(workers: int) -> None:
    steps = EvaluationLoader(Numbers(), 3, num_workers=workers)  # type: ignore[arg-type]  # as above
    assert [list(steps), list(steps), len(steps)] == [[0, 1, 2], [0, 1, 2], 3]
