"""What becomes of weights that processes moved on their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.distributed import (
    CommunicationStats,
    is_distributed,
    local_only,
    mean_over_processes,
    moving_buffers,
    trained_parameters,
)
from lightning_modules.parameter_averaging.base import ParameterAveraging
from lightning_modules.parameter_averaging.diloco import DiLoCo
from lightning_modules.parameter_averaging.local_sgd import LocalSGD
from pollinate.errors import UsageError


def weights(*values: float) -> dict[str, Tensor]:
    return {"a": torch.tensor(values)}


def test_local_sgd_takes_the_mean() -> None:
    assert LocalSGD(3).step(weights(1.0), weights(4.0)) == {"a": torch.tensor([4.0])}


def test_diloco_by_hand() -> None:
    rule = DiLoCo(3, lr=0.5, momentum=0.5)
    # g = 2, v = 2, w = 3 - .5 (2 + .5 * 2)
    assert rule.step(weights(3.0), weights(1.0))["a"].item() == 1.5
    # g = 1, v = 2, w = 1.5 - .5 (1 + .5 * 2)
    assert rule.step(weights(1.5), weights(0.5))["a"].item() == 0.5


def test_diloco_is_nesterov_on_the_mean_change() -> None:
    torch.manual_seed(0)
    rule, weight = DiLoCo(3), nn.Parameter(torch.randn(5, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.7, momentum=0.9, nesterov=True)
    own = {"a": weight.detach().clone()}
    for _ in range(4):
        mean = {"a": own["a"] + torch.randn(5, dtype=torch.float64)}
        weight.grad = own["a"] - mean["a"]
        optimizer.step()
        own = rule.step(own, mean)
        torch.testing.assert_close(own["a"], weight.detach())


def test_diloco_without_momentum_and_with_lr_1_is_local_sgd() -> None:
    start, mean = weights(1.0, -2.0), weights(0.5, 3.0)
    found = DiLoCo(3, lr=1.0, momentum=0.0).step(start, mean)
    assert torch.equal(found["a"], mean["a"])


def test_diloco_resumes_its_momentum() -> None:
    rule, again = DiLoCo(3), DiLoCo(3)
    rule.step(weights(1.0), weights(0.5))
    again.load_state_dict(rule.state_dict())
    first, second = (one.step(weights(1.0), weights(0.7)) for one in (rule, again))
    assert torch.equal(first["a"], second["a"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalSGD(0), "every_n_steps must be >= 1, got 0"),
        (lambda: DiLoCo(1, lr=0.0), r"lr must be > 0, got 0\.0"),
        (lambda: DiLoCo(1, momentum=1.0), r"momentum must be in \[0, 1\), got 1\.0"),
    ],
)
def test_values_out_of_range(make: Callable[[], ParameterAveraging], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


class Tied(nn.Module):
    """Two names for one weight, a frozen one, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.z = nn.Linear(2, 2, bias=False)
        self.b = nn.Linear(2, 2, bias=False)
        self.b.weight = self.z.weight
        self.a = nn.Linear(2, 2, bias=False)
        self.frozen = nn.Linear(2, 2, bias=False).requires_grad_(False)
        self.norm = nn.BatchNorm1d(2)


def test_the_list_is_sorted_by_name_and_has_tied_weights_once() -> None:
    module = Tied()
    moved = [p for p in module.parameters() if p.requires_grad]
    found = trained_parameters(module, reversed(moved))
    assert list(found) == ["a.weight", "norm.bias", "norm.weight", "z.weight"]
    buffers = moving_buffers(module)
    assert list(buffers) == ["norm.num_batches_tracked", "norm.running_mean", "norm.running_var"]


def test_one_process_is_its_own_mean() -> None:
    traffic = CommunicationStats()
    assert torch.equal(mean_over_processes(weights(2.0), traffic)["a"], torch.tensor([2.0]))
    assert traffic.metrics() == {}


def test_nothing_is_exchanged_alone() -> None:
    with local_only(), local_only(False):
        assert not is_distributed()


def test_counts_go_on() -> None:
    traffic, again = CommunicationStats(3, 1), CommunicationStats()
    again.load_state_dict(traffic.state_dict())
    again.add(4)
    assert again.metrics() == {"traffic/floats_sent": 7.0, "traffic/synchronisations": 1.0}
