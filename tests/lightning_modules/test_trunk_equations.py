"""Each trunk's equation, row by row and number by number, as its paper has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from lightning_modules.features import Features
from lightning_modules.trunks import dselect_k
from lightning_modules.trunks.cgc import CGC
from lightning_modules.trunks.cross_stitch import CrossStitch
from lightning_modules.trunks.dselect_k import DSelectK, entropy, smooth_step
from lightning_modules.trunks.film import FiLM
from lightning_modules.trunks.learning_to_branch import LearningToBranch
from lightning_modules.trunks.mmoe import MMoE
from lightning_modules.trunks.mtan import MTAN
from lightning_modules.trunks.ple import PLE
from lightning_modules.trunks.sluice import Sluice
from lightning_modules.trunks.soft_sharing import SoftSharing
from lightning_modules.trunks.task_queries import TaskQueries
from pipeline.errors import UsageError

DIM = 4
TASKS = ("a", "b", "c")


def drawn(trunk: nn.Module) -> Any:
    """The trunk with random parameters, none of them special."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in trunk.parameters():
            parameter.normal_(std=0.5)
    return trunk.eval()


def number(value: Tensor) -> float:
    """The value of a tensor of one number."""
    return value.detach().item()


def check(trunk: Any, expected: Callable[[str, Tensor], Tensor]) -> None:
    """Compare every task's rows of one data set with the equation, a row at a time."""
    rows = torch.randn(5, DIM, generator=torch.Generator().manual_seed(2))
    found = trunk({"x": Features(rows)}, dict.fromkeys(TASKS, ("x",)))
    for task in TASKS:
        for row, own in zip(rows, found[task][0], strict=True):
            assert torch.allclose(own, expected(task, row), atol=1e-5), task


def gate(module: Any, x: Tensor) -> list[float]:
    """softmax(W norm(x))."""
    scores = [math.exp(number(w @ module.norm(x))) for w in module.project.weight]
    return [score / sum(scores) for score in scores]


def weighted(weights: Any, vectors: Any) -> Tensor:
    """sum_e w_e v_e."""
    return sum(w * v for w, v in zip(weights, vectors, strict=True))  # type: ignore[return-value]


def test_mmoe() -> None:
    trunk = drawn(MMoE(TASKS, DIM, count=3))
    check(
        trunk,
        lambda t, x: weighted(gate(trunk.gates[t], x), [f(x) for f in trunk.experts.values()]),
    )


def test_cgc() -> None:
    trunk = drawn(CGC(TASKS, DIM, shared=2, own=2))

    def expected(t: str, x: Tensor) -> Tensor:
        selected = [f(x) for f in (*trunk.own_experts[t].values(), *trunk.shared_experts.values())]
        return weighted(gate(trunk.gates[t], x), selected)

    check(trunk, expected)


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_ple(levels: int) -> None:
    trunk = drawn(PLE(TASKS, DIM, levels=levels, shared=2, own=2))

    def expected(t: str, x: Tensor) -> Tensor:
        states = dict.fromkeys((*TASKS, "shared"), x)
        for level in range(levels):
            own = {u: [f(states[u]) for f in trunk.own_experts[level][u].values()] for u in TASKS}
            shared = [f(states["shared"]) for f in trunk.shared_experts[level].values()]
            after = {
                u: weighted(gate(trunk.gates[level][u], states[u]), [*own[u], *shared])
                for u in TASKS
            }
            if level < levels - 1:
                every = [f for u in TASKS for f in own[u]] + shared
                weights = gate(trunk.shared_gates[level], states["shared"])
                after["shared"] = weighted(weights, every)
            states = after
        return states[t]

    check(trunk, expected)


def step(t: float, gamma: float) -> float:
    if t <= -gamma / 2:
        return 0.0
    if t >= gamma / 2:
        return 1.0
    return -2 / gamma**3 * t**3 + 3 / (2 * gamma) * t + 1 / 2


def single(z: list[float], expert: int, gamma: float) -> float:
    """The weight that a single-expert selector gives to an expert, by the bits of its number."""
    weight = 1.0
    for place, value in enumerate(z):
        s = step(value, gamma)
        weight *= s if expert >> place & 1 else 1 - s
    return weight


def selectors(trunk: Any, task: str, x: Tensor) -> tuple[list[list[float]], list[float]]:
    """Each selector's weights of all codes, and the selectors' weights."""
    one = trunk.selectors[task]
    normed = one.norm(x)
    z = [number(w @ normed) for w in one.codes.weight]
    bits = len(z) // one.k
    scores = [math.exp(number(w @ normed)) for w in one.choice.weight]
    singles = [
        [single(z[i * bits : (i + 1) * bits], e, one.gamma) for e in range(2**bits)]
        for i in range(one.k)
    ]
    return singles, [score / sum(scores) for score in scores]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_dselect_k(count: int) -> None:
    trunk = drawn(DSelectK(TASKS, DIM, count=count, k=2, gamma=2.0))

    def expected(t: str, x: Tensor) -> Tensor:
        singles, alpha = selectors(trunk, t, x)
        weights = [sum(a * r[e] for a, r in zip(alpha, singles, strict=True)) for e in range(count)]
        return weighted(weights, [f(x) for f in trunk.experts.values()])

    check(trunk, expected)


@pytest.mark.parametrize("count", [3, 4])
def test_penalty_of_dselect_k(count: int) -> None:
    trunk = drawn(DSelectK(TASKS, DIM, count=count, k=2, gamma=2.0, entropy=0.7, unused=0.3))
    rows = torch.randn(5, DIM)
    expected = 0.0
    for task in ("a", "b"):
        for x in rows:
            for r in selectors(trunk, task, x)[0]:
                expected -= 0.7 / 5 * sum(w * math.log(w) for w in r if w > 0)
                if count == 3:
                    expected += 0.3 / 5 / sum(r[:3])
    trunk({"x": Features(rows)}, {"a": ("x",), "b": ("x",)})
    assert trunk.penalty(["a", "b"]).item() == pytest.approx(expected, rel=1e-4)


def test_penalty_of_dselect_k_is_the_mean_over_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trunk = drawn(DSelectK(TASKS, DIM, count=3, gamma=2.0, entropy=0.7, unused=0.3))
    rows, found = torch.randn(5, DIM), []
    for parts in ([rows], [rows[:4], rows[4:], rows[:0]]):  # one process, then three
        sums = torch.tensor([[float(len(rows)), float(len(parts))]])
        monkeypatch.setattr(dselect_k, "summed", partial(torch.add, sums, alpha=0))
        trunk.zero_grad()
        for part in parts:
            trunk({"x": Features(part)}, {"a": ("x",)})
            (trunk.penalty(["a"]) / len(parts)).backward()
        found.append(trunk.selectors["a"].codes.weight.grad.clone())
    assert torch.allclose(*found, atol=1e-6)


def test_penalty_of_dselect_k_leads_to_single_experts() -> None:
    torch.manual_seed(0)
    trunk = DSelectK(["a"], DIM, count=4, k=2, entropy=1.0)
    optimizer = torch.optim.Adam(trunk.parameters(), lr=0.05)
    rows = {"x": Features(torch.randn(20, DIM))}
    for _ in range(200):
        optimizer.zero_grad()
        trunk(rows, {"a": ("x",)})
        rest = trunk.penalty(["a"])
        assert rest is not None
        rest.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in trunk.parameters())
        optimizer.step()
    singles, _ = trunk.selectors["a"](rows["x"].pooled)
    assert entropy(singles).mean() < 0.05  # from 2 ln 2: only rows near a border are left
    assert (singles == 1).any(dim=-1).float().mean() > 0.8  # and the others choose one alone


def test_smooth_step() -> None:
    values = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    for gamma in (0.5, 1.0, 3.0):
        found = smooth_step(values, gamma)
        assert found.tolist() == pytest.approx([step(number(v), gamma) for v in values])
        assert (torch.autograd.grad(found.sum(), values)[0] >= 0).all()


def test_entropy_has_a_gradient_where_a_weight_is_0() -> None:
    weights = torch.tensor([0.0, 0.25, 0.75], requires_grad=True)
    value = entropy(weights)
    value.backward()
    assert value.item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert weights.grad is not None
    assert weights.grad.isfinite().all()


@pytest.mark.parametrize("depth", [1, 3])
def test_cross_stitch(depth: int) -> None:
    trunk = drawn(CrossStitch(TASKS, DIM, depth=depth))

    def expected(t: str, x: Tensor) -> Tensor:
        states = dict.fromkeys(TASKS, x)
        for layer, stitches in zip(trunk.layers, trunk.stitches, strict=True):
            outputs = [layer[u](states[u]) for u in TASKS]
            states = {u: weighted(stitches[u], outputs) for u in TASKS}
        return trunk.norms[t](states[t])  # type: ignore[no-any-return]

    check(trunk, expected)


def test_cross_stitches_start_near_the_own_stack() -> None:
    trunk = CrossStitch(TASKS, DIM, own=0.8)
    assert trunk.gauges(["b"]) == pytest.approx({"gate/b/a": 0.1, "gate/b/b": 0.8, "gate/b/c": 0.1})


@pytest.mark.parametrize("depth", [1, 3])
def test_sluice(depth: int) -> None:
    trunk = drawn(Sluice(TASKS, DIM, depth=depth))
    half = DIM // 2

    def expected(t: str, x: Tensor) -> Tensor:
        states, layers = dict.fromkeys(TASKS, x), []
        for layer, alphas in zip(trunk.layers, trunk.alphas, strict=True):
            outputs = {u: layer[u](states[u]) for u in TASKS}
            parts = [outputs[u][f * half : (f + 1) * half] for u in TASKS for f in range(2)]
            states = {
                u: torch.cat([weighted(row, parts) for row in alphas[u].view(2, 2 * len(TASKS))])
                for u in TASKS
            }
            layers.append(states[t])
        return trunk.norms[t](weighted(trunk.betas[t], layers))  # type: ignore[no-any-return]

    check(trunk, expected)


def test_penalty_of_sluice() -> None:
    trunk = drawn(Sluice(TASKS, DIM, depth=2, orthogonality=0.5))
    expected = 0.0
    for layer in trunk.layers:
        for task in TASKS:
            matrix = layer[task].layers[-1].weight
            for one in matrix[: DIM // 2]:
                for other in matrix[DIM // 2 :]:
                    expected += 0.5 * number(one @ other) ** 2
    assert trunk.penalty(["a"]).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("depth", [1, 3])
def test_mtan(depth: int) -> None:
    trunk = drawn(MTAN(TASKS, DIM, depth=depth))

    def expected(t: str, x: Tensor) -> Tensor:
        u, masked = x, x
        for j, block in enumerate(trunk.blocks):
            p = block(u)
            norm, g, _, h, _ = trunk.masks[t][j]
            if j:
                f = trunk.between[j - 1]
                u = torch.cat([u, gelu(f[1](f[0](masked)))])
            masked = torch.sigmoid(h(gelu(g(norm(u))))) * p
            u = p
        return trunk.norms[t](masked)  # type: ignore[no-any-return]

    check(trunk, expected)


def test_film() -> None:
    trunk = drawn(FiLM(TASKS, DIM, depth=2))

    def expected(t: str, x: Tensor) -> Tensor:
        for j, block in enumerate(trunk.blocks):
            x = (1 + trunk.scales[t][j]) * block(x) + trunk.shifts[t][j]
        return trunk.norm(x)  # type: ignore[no-any-return]

    check(trunk, expected)


def test_learning_to_branch_is_a_tree_in_evaluation() -> None:
    trunk = drawn(LearningToBranch(TASKS, DIM, depth=3, branches=3))

    def expected(t: str, x: Tensor) -> Tensor:
        place = int(trunk.leaves[t].argmax())
        path = [place]
        for parents in list(trunk.parents)[::-1]:
            place = int(parents[f"branch_{place}"].argmax())
            path.insert(0, place)
        for layer, place in zip(trunk.layers, path, strict=True):
            x = layer[f"branch_{place}"](x)
        return trunk.norms[t](x)  # type: ignore[no-any-return]

    check(trunk, expected)


def test_branches_are_drawn_by_their_weights() -> None:
    trunk = LearningToBranch(["a"], DIM, depth=1, branches=3, dropout=0.0, start=1e-3, end=1e-3)
    weights = torch.tensor([0.2, 0.5, 0.3])
    with torch.no_grad():
        trunk.leaves["a"].copy_(weights.log())
    counts = torch.zeros(3)
    for at in range(2000):
        trunk.begin_step(at)
        counts += trunk._decision(trunk.leaves["a"], trunk._noise(0)[0]).detach()
    assert torch.allclose(counts / 2000, weights, atol=0.04)
    assert trunk.gauges(["a"])["gate/a/branch_1"] == pytest.approx(0.5)


def test_temperature_and_draws_are_functions_of_the_step() -> None:
    rows = {"x": Features(torch.randn(4, DIM))}
    outputs = []
    for steps in ([0, 1, 2, 50], [50]):
        torch.manual_seed(0)
        trunk = LearningToBranch(TASKS, DIM, dropout=0.0, start=8.0, end=2.0, steps=100, seed=3)
        for at in steps:
            trunk.begin_step(at)
            found = trunk(rows, {"a": ("x",)})["a"][0]
        assert trunk.temperature == pytest.approx(4.0)
        outputs.append(found)
    assert torch.equal(*outputs)
    trunk.begin_step(1000)
    assert trunk.temperature == pytest.approx(2.0)
    assert not torch.allclose(trunk(rows, {"a": ("x",)})["a"][0], outputs[0])


def attended(trunk: Any, task: str, pooled: Tensor, memory: Tensor) -> Tensor:
    """A task's representation of one row: pooled (D,), memory (L, D)."""
    part, width = trunk.attention, DIM // trunk.attention.heads
    keys, values = part.key(part.norm(memory)), part.value(part.norm(memory))
    heads = []
    for h in range(part.heads):
        own = slice(h * width, (h + 1) * width)
        scores = [
            math.exp(number(trunk.queries[task][own] @ key[own]) / math.sqrt(width)) for key in keys
        ]
        heads.append(weighted([score / sum(scores) for score in scores], values[:, own]))
    return trunk.tower(pooled + part.out(torch.cat(heads)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("heads", [1, 2])
def test_task_queries(heads: int) -> None:
    trunk = drawn(TaskQueries(TASKS, DIM, heads=heads))
    check(trunk, lambda t, x: attended(trunk, t, x, x[None]))
    pooled, sequence = torch.randn(3, DIM), torch.randn(3, 4, DIM)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    grid = torch.randn(2, DIM, 2, 2)
    given = {
        "text": Features(pooled, sequence, mask=mask),
        "image": Features(pooled[:2], grid=grid),
    }
    found = trunk(given, {"a": ("text", "image")})["a"]
    for row, own in enumerate(found[0]):
        memory = torch.cat([pooled[row][None], sequence[row][mask[row]]])
        assert torch.allclose(own, attended(trunk, "a", pooled[row], memory), atol=1e-5)
    for row, own in enumerate(found[1]):
        memory = torch.cat([pooled[row][None], grid[row].flatten(1).T])
        assert torch.allclose(own, attended(trunk, "a", pooled[row], memory), atol=1e-5)


def test_soft_sharing() -> None:
    trunk = drawn(SoftSharing(TASKS, DIM, strength=0.6))
    check(trunk, lambda t, x: trunk.towers[t](x))
    weights = {t: list(trunk.towers[t].parameters()) for t in TASKS}
    expected = sum(
        0.3 * number((p - q).square().sum())
        for t, u in combinations(TASKS, 2)
        for p, q in zip(weights[t], weights[u], strict=True)
    )
    assert trunk.penalty(TASKS).item() == pytest.approx(expected, rel=1e-5)
    trunk.penalty(["a"]).backward()
    for p, q, r in zip(*weights.values(), strict=True):
        assert torch.allclose(p.grad, 0.6 * (2 * p - q - r), atol=1e-6)


def test_soft_sharing_starts_alike() -> None:
    penalty = SoftSharing(TASKS, DIM).penalty(TASKS)
    assert penalty is not None
    assert penalty.item() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMoE(TASKS, DIM, count=0), "count must be >= 1, got 0"),
        (lambda: CGC(TASKS, DIM, own=0), "own must be >= 1, got 0"),
        (lambda: PLE(TASKS, DIM, levels=1), "levels must be >= 2, got 1"),
        (lambda: DSelectK(TASKS, DIM, count=1), "count must be >= 2, got 1"),
        (lambda: DSelectK(TASKS, DIM, gamma=0.0), "gamma must be > 0, got 0.0"),
        (lambda: CrossStitch(TASKS, DIM, depth=0), "depth must be >= 1, got 0"),
        (lambda: CrossStitch(TASKS, DIM, own=1.5), r"own must be in \[0, 1\], got 1.5"),
        (lambda: Sluice(TASKS, DIM, orthogonality=-1.0), "orthogonality must be >= 0, got -1.0"),
        (lambda: SoftSharing(TASKS, DIM, strength=-1.0), "strength must be >= 0, got -1.0"),
        (lambda: DSelectK(TASKS, DIM, entropy=-1.0), "entropy must be >= 0, got -1.0"),
        (lambda: Sluice(TASKS, 3), "dim must be a multiple of 2, got 3"),
        (lambda: TaskQueries(TASKS, DIM, heads=3), "heads must divide dim = 4, got 3"),
        (lambda: LearningToBranch(TASKS, DIM, end=9.0), r"\(0, start = 5.0\], got 9.0"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
