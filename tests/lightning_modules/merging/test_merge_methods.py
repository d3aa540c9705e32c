"""Each method on models of a few numbers, and against plain code from its paper's equations."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lightning_modules.merging import task_vectors as vectors
from lightning_modules.merging.adamerging import AdaMerging
from lightning_modules.merging.base import MergeMethod
from lightning_modules.merging.dare import Dare
from lightning_modules.merging.fisher import Fisher
from lightning_modules.merging.greedy_soup import GreedySoup
from lightning_modules.merging.regmean import RegMean, regression_mean
from lightning_modules.merging.slerp import Slerp, slerp
from lightning_modules.merging.task_arithmetic import TaskArithmetic
from lightning_modules.merging.ties import Ties, magnitude_thresholds
from pollinate.errors import UsageError
from tests.merging import LayerEvaluator, W, models, models_of, result, state_dict_of
from tests.rows.groups import rows
from tests.rows.row import Row, ids

each = pytest.mark.parametrize("row", rows("method"), ids=ids)
# of models 0 and 1: (inputs, targets)
DATA = {
    "t0": (torch.ones(1, 1), torch.zeros(1)),
    "t1": (torch.ones(1, 1), torch.ones(1)),
}


@each
def test_row(row: Row) -> None:
    given, start = row.given
    merged = models_of(given, start)
    data = DATA if len(given) == 2 and len(state_dict_of(given[0])[W]) == 1 else None
    found = result(row.build(), merged, data)
    expected = state_dict_of(row.expected)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


SAME = {"task_arithmetic": {"scale": 1.0}, "dare": {"scale": 1.0, "drop": 0.0}}
SAME |= {"ties": {"scale": 1.0, "keep": 1.0}, "slerp": {}}
SAME |= {"tsv_m": {"scale": 1.0}, "iso_c": {"scale": 1.0}}


@pytest.mark.parametrize("row", [r for r in rows("method") if r.option != "ensemble"], ids=ids)
def test_one_model_with_weight_1_is_the_identity(row: Row) -> None:
    own = {W: torch.randn(1, 4), "n": torch.tensor(7), "heads.a.weight": torch.randn(3, 2)}
    method: MergeMethod = Row(row.group, row.option, None, None, SAME.get(row.option, {})).build()
    start = {W: torch.randn(1, 4)} if method.needs_base else None
    count = 2 if row.option == "slerp" else 1  # a model with itself
    merged = models([own] * count, start, buffers=["n"])
    if row.option == "adamerging":
        method = Row(row.group, row.option, None, None, {"start": 1.0, "steps": 1}).build()
        method.lr = 0.0  # type: ignore[attr-defined]
        own = {**own, W: torch.randn(2, 4)}
        merged = models([own], {W: torch.zeros(2, 4)}, buffers=["n"])
    found = result(method, merged)
    assert found.keys() == own.keys()
    for name, tensor in own.items():
        assert torch.equal(found[name], tensor), name


ORDERLESS = ("average", "uniform_soup", "greedy_soup", "slerp", "task_arithmetic", "ties")
ORDERLESS += ("fisher", "regmean", "tsv_m", "iso_c")


@pytest.mark.parametrize("option", ORDERLESS)
def test_the_order_of_models_changes_nothing(option: str) -> None:
    method = Row("method", option, None, None, {}).build()
    draws = torch.Generator().manual_seed(0)
    states = [{W: torch.randn(1, 6, generator=draws)} for _ in range(3)]
    states = states[:2] if option == "slerp" else states
    start = {W: torch.randn(1, 6, generator=draws)} if method.needs_base else None
    rows_of = {
        f"t{i}": (torch.randn(9, 6, generator=draws), torch.randn(9, generator=draws))
        for i in range(3)
    }
    found = result(method, models(states, start), rows_of)
    tasks = [[f"t{i}"] for i in reversed(range(len(states)))]
    turned = result(method, models(states[::-1], start, tasks), rows_of)
    torch.testing.assert_close(found[W], turned[W], rtol=1e-5, atol=1e-6)


SHAPES = {"a": (5, 7), "b": (11,), W: (2, 3)}
State = dict[str, Tensor]


def drawn(seed: int, near: State | None = None) -> State:
    """Random weights, or some near to others."""
    draws = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=draws) for name, shape in SHAPES.items()}
    return found if near is None else {n: near[n] + 0.1 * one for n, one in found.items()}


START = drawn(0)
MODELS = [drawn(seed, START) for seed in (1, 2, 3)]


def flat(state: State) -> Tensor:
    return torch.cat([state[name].double().flatten() for name in SHAPES])


def taus() -> Tensor:
    """The task vectors: (3, n)."""
    return torch.stack([flat(one) for one in MODELS]) - flat(START)


def close(found: State, expected: Tensor) -> None:
    torch.testing.assert_close(flat(found), expected, rtol=1e-5, atol=1e-6)


def test_task_arithmetic() -> None:
    found = result(TaskArithmetic(0.4, [1, 2, -0.5]), models(MODELS, START))
    close(found, flat(START) + 0.4 * torch.tensor([1, 2, -0.5]).double() @ taus())


@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
def test_ties(keep: float) -> None:
    """Algorithm 1, over all entries of a model together."""
    expected = torch.zeros(taus().shape[1]).double()
    trimmed = []
    for tau in taus():
        order = tau.abs().sort(descending=True).indices
        kept = torch.zeros_like(tau)
        largest = order[: math.ceil(keep * len(tau))]
        kept[largest] = tau[largest]
        trimmed.append(kept)
    for place in range(len(expected)):
        entries = [tau[place].item() for tau in trimmed]
        sign = math.copysign(1, sum(entries)) if sum(entries) else 0
        agreeing = [entry for entry in entries if entry * sign > 0]
        expected[place] = sum(agreeing) / len(agreeing) if agreeing else 0
    close(result(Ties(keep, 0.7), models(MODELS, START)), flat(START) + 0.7 * expected)


def test_dare_drops_its_share_and_keeps_the_mean() -> None:
    size = 200_000
    start = {W: torch.zeros(1, size)}
    method = Dare(0.75, 1.0, seed=1)
    found = result(method, models([{W: torch.ones(1, size)}], start))[W]
    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert (found == 0).double().mean().item() == pytest.approx(0.75, abs=0.01)
    again = result(Dare(0.75, 1.0, seed=1), models([{W: torch.ones(1, size)}], start))[W]
    other = result(Dare(0.75, 1.0, seed=2), models([{W: torch.ones(1, size)}], start))[W]
    assert torch.equal(found, again)
    assert not torch.equal(found, other)


def test_slerp() -> None:
    first, second, t = MODELS[0]["a"].double(), drawn(9)["a"].double(), 0.3
    cosine = (first * second).sum() / (first.norm() * second.norm())
    angle = math.acos(cosine.item())
    expected = (math.sin((1 - t) * angle) * first + math.sin(t * angle) * second) / math.sin(angle)
    torch.testing.assert_close(slerp(first, second, t), expected)
    unit = slerp(first / first.norm(), second / second.norm(), t)
    assert unit.norm().item() == pytest.approx(1)  # it stays on the sphere
    assert torch.equal(slerp(first, second, 0.0), first)
    torch.testing.assert_close(slerp(first, second, 1.0), second)


@pytest.mark.parametrize("scale", [1.0, -1.0, 0.0])
def test_slerp_of_vectors_on_one_line_is_straight(scale: float) -> None:
    first = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(slerp(first, scale * first, 0.25), (0.75 + 0.25 * scale) * first)


def test_the_ends_of_slerp_are_the_models() -> None:
    states = [drawn(1), drawn(2)]
    for t, state in zip((0.0, 1.0), states, strict=True):
        close(result(Slerp(t), models(states)), flat(state))


def regression_rows(outputs: int, count: int = 20) -> dict[str, tuple[Tensor, Tensor]]:
    """Rows of three tasks, on 3 inputs."""
    draws = torch.Generator().manual_seed(5)
    return {
        f"t{place}": (
            torch.randn(count, 3, generator=draws) * (place + 1),
            torch.randint(outputs, (count,), generator=draws)
            if outputs > 1
            else torch.randn(count, generator=draws),
        )
        for place in range(3)
    }


@pytest.mark.parametrize("normalize", [False, True])
def test_fisher_of_a_regression(normalize: bool) -> None:
    """F = mean ((w x - y) x)^2 of each weight, divided by its norm if asked for."""
    states = [{W: one[W][:1]} for one in MODELS]
    data, weights = regression_rows(1), [1.0, 2.0, 3.0]
    above, below = torch.zeros(1, 3).double(), torch.zeros(1, 3).double()
    for own, (inputs, targets), weight in zip(states, data.values(), weights, strict=True):
        inputs, targets = inputs.double(), targets.double()
        errors = inputs @ own[W][0].double() - targets
        information = (errors[:, None] * inputs).square().mean(dim=0)
        information = information / information.norm() if normalize else information
        above += weight * information * own[W]
        below += weight * information
    found = result(Fisher(20, weights, normalize), models(states), data)[W]
    torch.testing.assert_close(found.double(), above / below, rtol=1e-6, atol=0)


def test_fisher_is_exact_where_little_is_known_and_averages_where_nothing_is() -> None:
    """Inputs of very different sizes give informations of 1e8 and 1e-8; one input is 0."""
    states = [{W: one[W][:1]} for one in MODELS]
    scale = torch.tensor([1e4, 1e-4, 0.0])
    data = {task: (x * scale, y) for task, (x, y) in regression_rows(1).items()}
    above, below = torch.zeros(1, 3).double(), torch.zeros(1, 3).double()
    for own, (inputs, targets) in zip(states, data.values(), strict=True):
        x = inputs.double()
        errors = x @ own[W][0].double() - targets.double()
        information = (errors[:, None] * x).square().mean(dim=0)
        above, below = above + information * own[W], below + information
    found = result(Fisher(20, normalize=False), models(states), data)[W].double()
    torch.testing.assert_close(found[:, :2], (above / below)[:, :2], rtol=1e-6, atol=0)
    mean = torch.stack([own[W] for own in states]).double().mean(dim=0)
    torch.testing.assert_close(found[:, 2], mean[:, 2], rtol=1e-6, atol=0)


def test_fisher_of_a_classification_is_that_of_drawn_answers() -> None:
    """E_y (d log p_y / d W_cj)^2 = sum_y p_y ((y = c) - p_c)^2 x_j^2 = p_c (1 - p_c) x_j^2."""
    own = {W: 0.2 * MODELS[0][W]}
    inputs, targets = regression_rows(2, 600)["t0"]
    evaluator = LayerEvaluator(models([own]), {"t0": (inputs, targets)})
    found = Fisher(rows=600).information(evaluator, 0)[W]
    p = (inputs @ own[W].T).softmax(dim=-1)
    expected = torch.einsum("nc,nj->cj", p * (1 - p), inputs.square()) / len(inputs)
    torch.testing.assert_close(found, expected.double(), rtol=0.1, atol=1e-3)


def test_regmean_minimises_the_distance_of_outputs() -> None:
    """Without shrinking it is the least-squares solution over all rows stacked."""
    states = [{W: one[W]} for one in MODELS]
    data = regression_rows(2)
    stacked = torch.cat([inputs for inputs, _ in data.values()]).double()
    wanted = torch.cat(
        [x.double() @ own[W].double().T for own, (x, _) in zip(states, data.values(), strict=True)]
    )
    expected = torch.linalg.lstsq(stacked, wanted).solution.T
    found = result(RegMean(shrink=1.0), models(states), data)[W]
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_regmean_does_not_mind_the_size_of_an_input_and_averages_where_no_row_has_been() -> None:
    """A large and a small input give what they would at one size; an input of 0 the mean."""
    states = [{W: one[W]} for one in MODELS]
    scale = torch.tensor([1e3, 1e-3, 0.0])
    data = {task: (x * scale, y) for task, (x, y) in regression_rows(2).items()}
    total, right = torch.zeros(2, 2).double(), torch.zeros(2, 2).double()
    for own, (inputs, _) in zip(states, data.values(), strict=True):
        x = (inputs.double() / scale)[:, :2]
        total += x.T @ x
        right += x.T @ x @ (own[W].double() * scale)[:, :2].T
    expected = torch.linalg.solve(total, right).T / scale[:2]
    found = result(RegMean(shrink=1.0), models(states), data)[W].double()
    torch.testing.assert_close(found[:, :2], expected, rtol=1e-6, atol=0)
    mean = torch.stack([own[W] for own in states]).double().mean(dim=0)
    torch.testing.assert_close(found[:, 2], mean[:, 2], rtol=1e-6, atol=0)


def test_regmean_of_parallel_inputs_is_the_minimum_nearest_to_the_mean() -> None:
    weights = [one[W] for one in MODELS]
    rows = [torch.randn(5, 1).double() @ torch.ones(1, 3).double() for _ in weights]
    found = regression_mean(weights, [x.T @ x for x in rows]).double()
    mean = torch.stack(weights).double().mean(dim=0)
    mass = [x.square().sum() for x in rows]
    means = [m * w.double().mean(dim=1) for m, w in zip(mass, weights, strict=True)]
    along = torch.stack(means).sum(dim=0) / sum(mass)
    expected = mean + (along - mean.mean(dim=1))[:, None]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_regmean_with_shrinking() -> None:
    states = [{W: one[W]} for one in MODELS]
    data, alpha = regression_rows(2), 0.3
    total, right = torch.zeros(3, 3).double(), torch.zeros(3, 2).double()
    for own, (x, _) in zip(states, data.values(), strict=True):
        gram = x.double().T @ x.double()
        gram = alpha * gram + (1 - alpha) * torch.diag(torch.diag(gram))
        total += gram
        right += gram @ own[W].double().T
    found = result(RegMean(shrink=alpha), models(states), data)[W]
    torch.testing.assert_close(found.double(), (total.inverse() @ right).T, rtol=1e-6, atol=0)


def test_adamerging_descends_the_entropy() -> None:
    """Three steps of Adam on the coefficients, by plain code."""
    states, start = [{W: one[W]} for one in MODELS], {W: START[W]}
    data = regression_rows(2)
    coefficients = torch.full((3,), 0.3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([coefficients], lr=0.05)
    for _ in range(3):
        weight = start[W] + sum(
            c * (own[W] - start[W]).double() for c, own in zip(coefficients, states, strict=True)
        )
        total = torch.zeros(()).double()
        for inputs, _ in data.values():
            p = (inputs.double() @ weight.T).softmax(dim=-1)
            total = total - (p * p.log()).sum(dim=-1).mean()
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    method = AdaMerging(steps=3, lr=0.05, layers=False)
    merged = models(states, start)
    found = method.merge(merged, LayerEvaluator(merged, data)).coefficients["layers"]["all"]
    assert list(found.values()) == pytest.approx(coefficients.tolist(), rel=1e-4)


def test_the_greedy_soup_takes_what_does_not_hurt() -> None:
    states = [{W: torch.tensor([[value]])} for value in (2.2, 1.9, 5.0, 2.2)]
    merged = models(states)
    found = GreedySoup().merge(
        merged, LayerEvaluator(merged, regression_rows(1), lambda s: -abs(s[W].item() - 2))
    )
    assert found.coefficients["weights"] == {"m0": 0.5, "m1": 0.5, "m2": 0.0, "m3": 0.0}
    assert found.state[W].item() == pytest.approx(2.05)


def test_the_scale_is_the_best_on_validation_data() -> None:
    merged = models([{W: torch.tensor([[3.0]])}], {W: torch.tensor([[1.0]])})
    evaluator = LayerEvaluator(merged, regression_rows(1), lambda s: -abs(s[W].item() - 1.9))
    found = TaskArithmetic([0.2, 0.4, 0.6]).merge(merged, evaluator)
    assert found.coefficients["scale"] == 0.4
    assert list(found.coefficients["validation_score"]) == ["0.2", "0.4", "0.6"]
    assert found.state[W].item() == pytest.approx(1.8)


def test_pieces_of_a_tensor_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = result(Ties(0.3, 0.7), models(MODELS, START))
    monkeypatch.setattr(vectors, "CHUNK_SIZE", 4)
    parts = result(Ties(0.3, 0.7), models(MODELS, START))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def halves(vectors: list[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield each vector in two parts, in turns."""
    for part in (0, 1):
        for which, vector in enumerate(vectors):
            yield which, vector.tensor_split(2)[part]


@pytest.mark.parametrize("keep", [1e-4, 0.2, 0.5, 1.0])
def test_as_by_sorting_everything(keep: float) -> None:
    """Sizes of several magnitudes, many equal ones, and zeros."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.randn(5001, generator=generator).abs() * 10.0 ** torch.randint(
        -30, 30, (5001,), generator=generator
    )
    equal = torch.randint(0, 3, (400,), generator=generator).float()
    vectors = [spread, equal, torch.zeros(7), torch.ones(1)]
    expected = [
        vector.sort(descending=True).values[math.ceil(keep * len(vector)) - 1].item()
        for vector in vectors
    ]
    assert magnitude_thresholds(lambda: halves(vectors), len(vectors), keep) == expected


def test_a_vector_without_entries_has_the_limit_zero() -> None:
    """A model that shares no tensor with the start."""
    assert magnitude_thresholds(lambda: halves([torch.tensor([3.0, 1.0])]), 2, 0.5) == [3.0, 0.0]


def test_state_dicts_of_any_modules_are_merged() -> None:
    torch.manual_seed(0)
    a, b = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)) for _ in range(2))
    a(torch.randn(8, 2))
    found = Slerp(0.5).merge_state_dicts({"a": a.state_dict(), "b": b.state_dict()}).state
    expected = slerp(a.state_dict()["0.weight"], b.state_dict()["0.weight"], 0.5)
    assert torch.allclose(found["0.weight"], expected, atol=1e-6)
    statistics = torch.stack([one.state_dict()["1.running_mean"] for one in (a, b)])
    assert torch.allclose(found["1.running_mean"], statistics.mean(dim=0))  # no weights
    a.load_state_dict(found)


def test_a_method_says_what_state_dicts_lack() -> None:
    one: dict[str, dict[str, Tensor]] = {"a": {"w": torch.ones(1)}}
    with pytest.raises(UsageError, match=r"Ties subtracts from each model .* base=CHECKPOINT"):
        Ties().merge_state_dicts(one)
    with pytest.raises(UsageError, match="GreedySoup doesn't use a common start"):
        GreedySoup().merge_state_dicts(one, base=one["a"])
    with pytest.raises(UsageError, match="models must be 2 for Slerp, got 1"):
        Slerp().merge_state_dicts(one)
    with pytest.raises(UsageError, match="TaskArithmetic chooses by a score; give score"):
        TaskArithmetic(scale=[0.5, 1.0]).merge_state_dicts(one, one["a"])
    with pytest.raises(UsageError, match=r"RegMean runs models on data, .* merge runs: po\.merge"):
        RegMean().merge_state_dicts(one)
