"""Numbers with a spread, and quantiles."""

from __future__ import annotations

import math

import pytest
import torch

import pollinate as po
from lightning_modules.tasks.number_models import LEVELS
from pollinate.errors import UsageError


def regression(noise: str) -> po.tasks.Regression:
    return po.tasks.Regression("shop", target="price", scale=[20.0, 5.0], noise=noise)


def fitted(noise: str) -> tuple[po.tasks.Regression, torch.Tensor, torch.Tensor]:
    """A head trained on y ~ N(20 + 5 x, (1 + 4 x)^2), x in {0, 1}."""
    torch.manual_seed(0)
    task = regression(noise)
    head = task.head(2)
    x = torch.randint(0, 2, (4000,)).float()
    target = 20 + 5 * x + (1 + 4 * x) * torch.randn(4000)
    rows = torch.stack([x, 1 - x], dim=1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(250):
        optimizer.zero_grad()
        task.loss(head(rows), target).mean().backward()
        optimizer.step()
    return task, head(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).detach(), target


def test_a_spread_by_row_is_learnt_beside_the_number() -> None:
    task, output, _ = fitted("input")
    assert torch.allclose(output[:, 0], torch.tensor([20.0, 25.0]), atol=0.5)
    assert torch.allclose(output[:, 1].exp(), torch.tensor([1.0, 5.0]), rtol=0.15)
    assert task.decode(output)[1]["std"] == pytest.approx(5.0, rel=0.15)
    confidence = task.confidence(output, output)
    assert confidence is not None and confidence[0] > confidence[1]


def test_quantiles_are_learnt_and_in_order() -> None:
    task, output, _ = fitted("quantiles")
    normal = torch.special.ndtri(torch.tensor(LEVELS))
    wanted = torch.stack([20 + normal, 25 + 5 * normal])
    assert torch.allclose(output, wanted, atol=1.2)
    assert (output.diff(dim=1) > 0).all()
    assert task.metric_input(output).tolist() == output[:, 1].tolist()


@pytest.mark.parametrize("noise", ["constant", "input", "quantiles"])
def test_losses_are_not_negative_and_what_is_neutral_is_an_output(noise: str) -> None:
    task = regression(noise)
    output = task.head(4)(torch.randn(6, 4))
    assert (task.loss(output, torch.full((6,), 20.0)) >= 0).all()
    neutral = task.neutral + task.linear_shift(torch.zeros(3, 1))
    assert neutral.shape[1:] == output.shape[1:]
    assert task.metric_input(neutral).tolist() == pytest.approx([20.0] * 3)
    moved = task.linear_output(torch.ones(1, 1))
    assert task.metric_input(moved).item() == pytest.approx(25.0)


def test_members_that_disagree_widen_the_spread() -> None:
    task = regression("input")
    members = torch.tensor([[[18.0, 0.0]], [[22.0, 0.0]]])
    together = task.ensemble_output(members)
    assert together[0, 0] == 20
    assert together[0, 1].exp().item() == pytest.approx(math.sqrt(1 + 4))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="noise must be constant or input"):
        regression("none")
    with pytest.raises(UsageError, match="quantiles have none"):
        po.tasks.Regression("shop", target="price", huber=1.0, noise="quantiles")
