import pytest
import torch

from lightning_modules.encoders.resnet import ResidualConvolutions, ResNet
from pollinate.errors import UsageError


@pytest.mark.parametrize(
    ("channels", "size", "stages", "stride", "cells"),
    [(1, 28, 2, 2, 3), (3, 32, 2, 2, 4), (1, 8, 2, 1, 2), (3, 64, 3, 2, 4), (1, 9, 1, 4, 1)],
)
def test_shapes(channels: int, size: int, stages: int, stride: int, cells: int) -> None:
    encoder = ResNet(channels, dim=12, width=8, stages=stages, stride=stride).eval()
    features = encoder(torch.rand(2, channels, size, size))
    assert features.pooled.shape == (2, 12)
    assert features.grid is not None
    assert features.grid.shape == (2, 12, cells, cells)


def test_a_block_begins_as_what_it_is_given() -> None:
    cells = torch.rand(2, 4, 3, 3)
    assert torch.equal(ResidualConvolutions(4)(cells), cells)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pictures_go_by_the_running_statistics(count: int) -> None:
    """A process may get one picture or none: it has no statistics, and must not spoil them."""
    encoder, pictures = ResNet(1, dim=4, width=4), torch.rand(count, 1, 16, 16)
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    found = encoder(pictures).pooled
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_buffers())
    assert torch.equal(found, encoder.eval()(pictures).pooled)


@pytest.mark.parametrize(("stages", "stride", "least"), [(2, 2, 7), (3, 1, 8), (1, 4, 5)])
def test_pictures_that_leave_no_cell_are_refused(stages: int, stride: int, least: int) -> None:
    encoder = ResNet(1, dim=4, width=4, stages=stages, stride=stride).eval()
    assert encoder(torch.rand(1, 1, least, least)).grid.shape[-2:] == (1, 1)
    with pytest.raises(UsageError, match=f">= {least} pixels a side, got {least} x {least - 1}"):
        encoder(torch.rand(1, 1, least, least - 1))


def test_errors() -> None:
    for name in ("width", "stages", "stride"):
        with pytest.raises(UsageError, match=f"{name} must be >= 1, got 0"):
            ResNet(1, dim=4, **{name: 0})
