import pytest
import torch

from lightning_modules.encoders.cnn import CNN
from pollinate.errors import UsageError


@pytest.mark.parametrize(
    ("channels", "size", "stages", "cells"),
    [(1, 28, 3, 7), (3, 32, 3, 8), (1, 8, 2, 4), (3, 64, 4, 8), (1, 9, 1, 5)],
)
def test_shapes(channels: int, size: int, stages: int, cells: int) -> None:
    encoder = CNN(channels, dim=12, width=8, stages=stages).eval()
    features = encoder(torch.rand(2, channels, size, size))
    assert features.pooled.shape == (2, 12)
    assert features.grid is not None
    assert features.grid.shape == (2, 12, cells, cells)
    assert features.sequence is None
    assert features.mask is None


def test_a_smaller_stride_makes_a_finer_grid() -> None:
    grid = CNN(3, dim=4, width=8, stride=1).eval()(torch.rand(1, 3, 32, 32)).grid
    assert grid.shape == (1, 4, 16, 16)
    with pytest.raises(UsageError, match="stride must be >= 1 pixel, got 0"):
        CNN(3, dim=4, width=8, stride=0)


def test_pooled_is_mean_plus_maximum_of_the_grid() -> None:
    features = CNN(1, dim=4, width=8).eval()(torch.rand(3, 1, 28, 28))
    cells = features.grid.flatten(2)
    torch.testing.assert_close(features.pooled, cells.mean(dim=2) + cells.amax(dim=2))


@pytest.mark.parametrize("training", [True, False])
def test_rows_are_apart(training: bool) -> None:
    """Also in training: no statistics of the batch, which several devices would have to share."""
    encoder = CNN(1, dim=4, width=8, dropout=0.0).train(training)
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(
        encoder(images).pooled[2:3], encoder(images[2:3]).pooled, atol=1e-5, rtol=0
    )


def test_compiles_in_one_graph() -> None:
    encoder, images = CNN(1, dim=4, width=8).eval(), torch.rand(2, 1, 28, 28)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images).pooled, encoder(images).pooled)


def test_errors() -> None:
    with pytest.raises(UsageError, match="width must be a multiple of 8, got 12"):
        CNN(1, dim=4, width=12)
    with pytest.raises(UsageError, match="stages must be >= 1, got 0"):
        CNN(1, dim=4, stages=0)
