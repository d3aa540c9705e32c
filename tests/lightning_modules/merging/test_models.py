"""What is merged, what is taken as it is, and how it is read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.merging import models as module
from lightning_modules.merging.average import Average
from lightning_modules.merging.dare import Dare
from lightning_modules.merging.layerwise import layer_of
from lightning_modules.merging.models import unrelated_models
from lightning_modules.merging.slerp import Slerp
from lightning_modules.merging.task_arithmetic import TaskArithmetic
from lightning_modules.merging.task_vectors import TaskVectorMerge, task_vector
from lightning_modules.merging.ties import Ties
from pollinate.errors import UsageError
from tests.merging import W, models, result

VECTORS = [TaskArithmetic(0.5), Ties(1.0, 0.5), Dare(0.0, 0.5)]


def test_adding_then_subtracting_a_task_vector_returns_the_start_bitwise() -> None:
    """In 64 bits, of weights that were trained in 32."""
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(10_000, generator=draws)
    model = start + 0.1 * torch.randn(10_000, generator=draws)
    tau = task_vector(model, start)
    there = start.double() + tau
    assert torch.equal(there, model.double())
    assert torch.equal(there - tau, start.double())


def test_the_same_by_the_method() -> None:
    """A vector with weight 1, then the same with -1; and both at once."""
    draws = torch.Generator().manual_seed(0)
    start = {W: torch.randn(1, 999, generator=draws).double()}
    model = {W: torch.randn(1, 999, generator=draws).float().double()}
    start = {W: start[W].float().double()}
    there = result(TaskArithmetic(1.0), models([model], start))
    assert there[W].dtype == torch.float64
    back = result(TaskArithmetic(1.0, [-1.0]), models([{W: there[W] - 0}], start))[W]
    assert torch.equal(back + 2 * task_vector(model[W], start[W]), model[W])
    both = result(TaskArithmetic(1.0, [1.0, -1.0]), models([model, model], start))
    assert torch.equal(both[W], start[W])


@pytest.mark.parametrize("method", VECTORS, ids=lambda method: type(method).__name__)
def test_buffers_are_no_part_of_a_task_vector(method: TaskVectorMerge) -> None:
    def norm(value: float, count: int) -> dict[str, Tensor]:
        return {
            W: torch.full((1, 2), value),
            "bn.running_var": torch.full((2,), value),
            "bn.num_batches_tracked": torch.tensor(count),
        }

    buffers = ["bn.running_var", "bn.num_batches_tracked"]
    merged = models([norm(2.0, 30), norm(4.0, 50)], norm(1.0, 10), buffers=buffers)
    found = result(method, merged)
    assert torch.equal(found["bn.running_var"], torch.tensor([3.0, 3.0]))  # a mean, not a sum
    assert found["bn.num_batches_tracked"].item() == 30


@pytest.mark.parametrize("method", VECTORS, ids=lambda method: type(method).__name__)
def test_tied_weights_are_moved_once(method: TaskVectorMerge) -> None:
    def tied(value: float) -> dict[str, Tensor]:
        weight = torch.full((1, 3), value)
        return {W: weight, "out": weight}

    found = result(method, models([tied(3.0)], tied(1.0)))
    assert found[W] is found["out"]
    assert found[W].tolist() == [[2.0, 2.0, 2.0]]


def test_heads_of_one_model_are_taken_as_they_are() -> None:
    one = {W: torch.ones(1, 2), "heads.a.weight": torch.ones(2), "trunk.gates.a": torch.ones(1)}
    two = {W: torch.ones(1, 2) * 3, "heads.b.weight": torch.ones(2) * 5}
    start = {
        W: torch.zeros(1, 2),
        "heads.a.weight": torch.zeros(2),
        "trunk.gates.a": torch.zeros(1),
    }
    found = result(TaskArithmetic(0.5), models([one, two], start, [["a"], ["b"]]))
    assert found["heads.a.weight"].tolist() == [1, 1]
    assert found["heads.b.weight"].tolist() == [5, 5]
    assert found["trunk.gates.a"].tolist() == [1]
    assert found[W].tolist() == [[2, 2]]


def test_heads_of_several_models_are_merged_too() -> None:
    states = [{W: torch.ones(1, 1) * k, "heads.a.weight": torch.ones(2) * k} for k in (1, 3)]
    found = result(Average(), models(states, tasks=[["a"], ["a"]]))
    assert found["heads.a.weight"].tolist() == [2, 2]


def test_weights_count_among_the_models_that_have_a_tensor() -> None:
    states = [
        {W: torch.ones(1, 1), "e": torch.ones(1)},
        {W: torch.ones(1, 1) * 2, "e": torch.ones(1) * 4},
        {W: torch.ones(1, 1) * 6},
    ]
    found = result(Average([1, 2, 1]), models(states))
    assert found[W].item() == pytest.approx((1 + 2 * 2 + 6) / 4)
    assert found["e"].item() == pytest.approx((1 + 2 * 4) / 3)


def test_a_model_is_opened_anew_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the pages that were read don't pile up."""
    monkeypatch.setattr(module, "MAX_MAPPED_BYTES", 64)
    states = [{f"n{i}": torch.full((4,), float(i + k)) for i in range(5)} for k in (0, 2)]
    opened = []
    merged = models(states)
    merged.read = [lambda one=one: opened.append(1) or one for one in states]  # type: ignore
    found = merged.merged(lambda unit, tensors, start: tensors[0] + tensors[1])
    assert {name: one[0].item() for name, one in found.items()} == {
        f"n{i}": 2.0 * i + 2 for i in range(5)
    }
    # 16 bytes each, 32 of each model: 2 + 2 + 1 tensors, and once to see what there is
    assert len(opened) == 2 * 4


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(
        UsageError, match=r"w.weight must have one shape .* \(1, 2\) in m0, \(1, 3\) in m1"
    ):
        result(Average(), models([{W: torch.zeros(1, 2)}, {W: torch.zeros(1, 3)}]))


def test_models_with_and_without_a_start() -> None:
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(40, 40, generator=draws)
    near = [start + 0.5 * torch.randn(40, 40, generator=draws) for _ in range(2)]
    far = torch.randn(40, 40, generator=draws)
    norms = {"norm.weight": torch.ones(40)}  # begin alike everywhere, and say nothing
    states = [{W: one, **norms} for one in (*near, far)]
    assert [(one.model, one.other) for one in unrelated_models(models(states))] == [("m2", "m0")]
    found = list(unrelated_models(models(states, {W: start, **norms})))
    assert [(one.model, one.other) for one in found] == [("m2", "the base")]
    assert abs(found[0].cosine) < 0.1


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("encoders.image.stages.0.weight", "encoders.image.stages.0"),
        ("trunk.blocks.1.layers.2.bias", "trunk.blocks.1"),
        ("trunk.norm.weight", "trunk.norm"),
        ("w", "w"),
    ],
)
def test_layers(name: str, layer: str) -> None:
    assert layer_of(name) == layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Average([1, -1]), "weights must be >= 0 and not all 0"),
        (lambda: Average([0, 0]), "weights must be >= 0 and not all 0"),
        (lambda: Slerp(1.5), r"t must be in \[0, 1\], got 1.5"),
        (lambda: Ties(keep=0), r"keep must be in \(0, 1\], got 0"),
        (lambda: Dare(drop=1), r"drop must be in \[0, 1\), got 1"),
        (lambda: TaskArithmetic([]), "scale must be a number or several"),
    ],
)
def test_options_out_of_range(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


def test_one_weight_a_model() -> None:
    states = [{W: torch.zeros(1, 1)}, {W: torch.zeros(1, 1)}]
    with pytest.raises(UsageError, match=r"one for each of the 2 models \(m0, m1\), got 3"):
        result(Average([1, 1, 1]), models(states))
