"""Functions of a student's and a teacher's logits."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.divergences import generalized_divergence, mean_logits, soft_divergence
from lightning_modules.output_spaces import AnswerOutput
from lightning_modules.transfer.decoupled import decoupled_divergence
from lightning_modules.transfer.dist import inter_class_distance, intra_class_distance

KNOWN = torch.tensor([[0.0, math.log(3.0)]])  # probabilities 1/4 and 3/4
EVEN = torch.zeros(1, 2)


def logits(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_soft_divergence_by_hand() -> None:
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert soft_divergence(EVEN, KNOWN, 1.0).item() == pytest.approx(expected)
    # at T = 2 the teacher's odds are sqrt 3 : 1
    p = 1 / (1 + math.sqrt(3))
    expected = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert soft_divergence(EVEN, KNOWN, 2.0).item() == pytest.approx(expected)


def test_soft_divergence_is_zero_for_equals_whatever_is_added() -> None:
    own = logits(0, 4, 3)
    assert torch.allclose(soft_divergence(own, own + 7.0, 3.0), torch.zeros(4).double())


def test_gradient_keeps_its_size_at_high_temperatures() -> None:
    """Without T^2 it would fall to a hundredth from T = 10 to T = 100."""
    sizes = []
    for temperature in (10.0, 100.0):
        student = logits(0, 5, 4).requires_grad_()
        soft_divergence(student, logits(1, 5, 4), temperature).mean().backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_halves_are_computed_in_full() -> None:
    student, teacher = logits(0, 4, 3), logits(1, 4, 3)
    found = soft_divergence(student.bfloat16(), teacher.bfloat16(), 2.0)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), soft_divergence(student, teacher, 2.0), atol=0.1)


def test_generalized_divergence_by_hand() -> None:
    """p = (1/4, 3/4), q = (1/2, 1/2), m = (3/8, 5/8) in the middle."""
    forward = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    reverse = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    middle = 0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5)
    middle = 0.5 * middle + 0.5 * (0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5))
    for beta, expected in ((0.0, forward), (1.0, reverse), (0.5, middle)):
        assert generalized_divergence(EVEN, KNOWN, beta).item() == pytest.approx(expected)


def test_generalized_divergence_goes_to_its_ends() -> None:
    """D_b / b to forward and D_b / (1 - b) to reverse KL; turned round, b becomes 1 - b."""
    one, two, small = logits(0, 4, 3), logits(1, 4, 3), 1e-6
    for beta, end in ((small, 0.0), (1 - small, 1.0)):
        near = generalized_divergence(one, two, beta) / small
        assert torch.allclose(near, generalized_divergence(one, two, end), atol=1e-4)
    turned = generalized_divergence(two, one, 0.7)
    assert torch.allclose(generalized_divergence(one, two, 0.3), turned)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_gradient_of_the_generalized_divergence(beta: float) -> None:
    """By finite differences."""
    student, teacher = logits(0, 3, 4).requires_grad_(), logits(1, 3, 4)
    assert torch.autograd.gradcheck(
        lambda given: generalized_divergence(given, teacher, beta, 2.0), student
    )


def waves(step: float, *shape: int) -> Tensor:
    count = torch.Size(shape).numel()
    return (3 * torch.sin(step * torch.arange(1, count + 1, dtype=torch.float64))).reshape(shape)


@pytest.mark.parametrize(  # of trl 1.16.0, GKDTrainer.generalized_jsd_loss
    ("beta", "temperature", "loss", "slope"),
    [
        (0.0, 1.0, 2.5250446176, 0.2347515425),
        (0.0, 2.0, 0.8749938067, 0.0753284557),
        (0.1, 1.0, 0.1593413980, 0.0100475382),
        (0.1, 2.0, 0.0719861570, 0.0054689464),
        (0.5, 1.0, 0.3582792599, 0.0239281754),
        (0.5, 2.0, 0.1787996731, 0.0127964819),
        (0.9, 1.0, 0.1521872465, 0.0127168501),
        (0.9, 2.0, 0.0693139892, 0.0056429020),
        (1.0, 1.0, 2.2447879378, 0.2837333965),
        (1.0, 2.0, 0.8265708347, 0.0758441108),
    ],
)
def test_generalized_divergence_as_trl(
    beta: float, temperature: float, loss: float, slope: float
) -> None:
    """Over answers of 2, 5 and 3 tokens; TRL's mean is over all tokens."""
    student, teacher = waves(1.3, 3, 5, 7).requires_grad_(), waves(0.7, 3, 5, 7)
    targets = torch.full((3, 5), -1)
    for row, tokens in enumerate((2, 5, 3)):
        targets[row, :tokens] = row
    found = AnswerOutput(7).divergence(
        student,
        teacher,
        targets,
        partial(generalized_divergence, beta=beta, temperature=temperature),
    )
    mean = (found * torch.tensor([2, 5, 3])).sum() / 10
    mean.backward()
    assert student.grad is not None
    assert mean.item() == pytest.approx(loss, abs=1e-9)
    assert student.grad.norm().item() == pytest.approx(slope, abs=1e-9)


def test_decoupled_by_the_equations() -> None:
    """KL(b || b') of (p_t, 1 - p_t), and of the others normalised, row by row."""
    student, teacher, target = logits(0, 3, 4), logits(1, 3, 4), torch.tensor([2, 0, 3])
    temperature, found = 3.0, []
    for row, t in enumerate(target.tolist()):
        q, p = ((x[row] / temperature).softmax(0).tolist() for x in (student, teacher))
        of_target = p[t] * math.log(p[t] / q[t])
        of_target += (1 - p[t]) * math.log((1 - p[t]) / (1 - q[t]))
        of_others = sum(
            p[c] / (1 - p[t]) * math.log(p[c] / (1 - p[t]) / (q[c] / (1 - q[t])))
            for c in range(4)
            if c != t
        )
        found.append(temperature**2 * (0.7 * of_target + 5.0 * of_others))
    own = decoupled_divergence(student, teacher, target, temperature, 0.7, 5.0)
    assert own.tolist() == pytest.approx(found)


def test_decoupled_parts_make_the_whole() -> None:
    """KL = target + (1 - p_t) others."""
    student, teacher, target = logits(0, 5, 4), logits(1, 5, 4), torch.tensor([0, 1, 2, 3, 0])
    of_target = decoupled_divergence(student, teacher, target, 2.0, 1.0, 0.0)
    of_others = decoupled_divergence(student, teacher, target, 2.0, 0.0, 1.0)
    sure = (teacher / 2.0).softmax(1).gather(1, target[:, None])[:, 0]
    whole = soft_divergence(student, teacher, 2.0)
    assert torch.allclose(of_target + (1 - sure) * of_others, whole)


def test_relations_by_hand() -> None:
    rows = torch.tensor([[0.2, 0.3, 0.4], [0.6, 0.3, 0.0]])
    turned = rows.flip(1)
    assert inter_class_distance(rows, 2 * rows + 1).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert inter_class_distance(rows, turned).tolist() == pytest.approx([2.0, 2.0])
    # over two rows a class rises or falls; the middle one does neither
    assert intra_class_distance(rows, turned).tolist() == pytest.approx([2.0, 1.0, 2.0])


def test_mean_of_teachers() -> None:
    several, shares = logits(0, 3, 5, 4), torch.tensor([[0.2], [0.3], [0.5]]).double().expand(3, 5)
    expected = ((several / 2.0).softmax(-1) * shares[..., None]).sum(0)
    assert torch.allclose((mean_logits(several, shares, 2.0) / 2.0).softmax(-1), expected)


def test_a_teacher_without_a_share_has_no_say() -> None:
    several = logits(0, 2, 1, 4)
    found = mean_logits(several, torch.tensor([[1.0], [0.0]]).double(), 1.0)
    assert torch.allclose(found.softmax(-1), several[0].softmax(-1))


@pytest.fixture(scope="module")
def oracle() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        return pytest.importorskip("torchdistill.losses.mid_level")


PLACES = {
    "student_module_path": "s",
    "student_module_io": "output",
    "teacher_module_path": "t",
    "teacher_module_io": "output",
}


def asked(loss: Any, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
    found: Tensor = loss({"s": {"output": student}}, {"t": {"output": teacher}}, target)
    return found


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_divergence_as_torchdistill(oracle: Any, temperature: float) -> None:
    student, teacher = logits(0, 6, 5), logits(1, 6, 5)
    loss = oracle.KDLoss(**PLACES, temperature=temperature, alpha=1e-12, beta=1.0)
    whole = asked(loss, student, teacher, torch.zeros(6, dtype=torch.int64))
    assert torch.allclose(soft_divergence(student, teacher, temperature).mean(), whole)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_relations_as_torchdistill(oracle: Any, temperature: float) -> None:
    student, teacher = logits(0, 6, 5), logits(1, 6, 5)
    loss = oracle.DISTLoss(**PLACES, beta=2.0, gamma=0.5, tau=temperature)
    soft = partial(torch.softmax, dim=1)
    own = [soft(one / temperature) for one in (student, teacher)]
    parts = 2.0 * inter_class_distance(*own).mean() + 0.5 * intra_class_distance(*own).mean()
    assert torch.allclose(temperature**2 * parts, asked(loss, student, teacher))
