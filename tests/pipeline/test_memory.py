"""Running out of memory is one clear error."""

import pytest
import torch

from pipeline.errors import PollinateError
from pipeline.memory import explained_memory


def test_a_batch_size_to_try_is_named() -> None:
    wanted = r"memory ran out in batches of 96 rows; try sampler\.batch_size=48, or less"
    with (
        pytest.raises(PollinateError, match=wanted),
        explained_memory("sampler.batch_size", 96, ", or less"),
    ):
        torch.empty(2**60)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_every_kind_of_memory(error: Exception) -> None:
    with (
        pytest.raises(PollinateError, match=r"try batch_size=1$"),
        explained_memory("batch_size", 1),
    ):
        raise error


def test_other_errors_stay() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), explained_memory("batch_size", 8):
        raise RuntimeError("shapes differ")
