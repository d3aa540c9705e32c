"""Models and rows that have shapes, and no numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
Cast = Callable[[torch.dtype], torch.dtype]
M = TypeVar("M", bound=nn.Module)


class GuessedValues(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is not annotated
    """Answers what shapes alone can't: a mask is true everywhere, a number read out is 1.

    More rows than that can't pass a mask, so memory and operations are upper bounds.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._local_scalar_dense.default:
            return guessed_value(args[0].dtype)
        if func is aten.nonzero.default:
            return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.int64)
        if func is aten.masked_select.default:
            return args[0].new_empty((args[0].numel(),))
        if func is aten.index.Tensor:
            args = (args[0], [place for one in args[1] for place in all_true(one)])
        return func(*args, **(kwargs or {}))


def guessed_value(dtype: torch.dtype) -> Any:
    """Return 1 as Python has it."""
    if dtype == torch.bool:
        return True
    return 1.0 if dtype.is_floating_point else 1


def all_true(index: Tensor | None) -> list[Tensor | None]:
    """Return a mask as the places where it is true: all of them; another index as it is."""
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    return [index.new_empty((index.numel(),), dtype=torch.int64) for _ in range(index.dim())]


@contextmanager
def fake_tensors(cast: Cast) -> Iterator[None]:
    """Inside, tensors have no numbers; nobody's random numbers change."""
    usual = torch.get_default_dtype()
    guesses = GuessedValues()  # type: ignore[no-untyped-call]  # torch's is not annotated
    with isolate_rng(), FakeTensorMode(allow_non_fake_inputs=True), guesses:
        torch.set_default_dtype(cast(usual))
        try:
            yield
        finally:
            torch.set_default_dtype(usual)


def fake_copy(module: M, cast: Cast) -> M:
    """Return a copy whose parameters and buffers have no numbers; inside ``fake_tensors``.

    Args:
        module: on any device, that of shapes (``meta``) among them.
        cast: what becomes of a number's type.
    """
    known: dict[int, Any] = {}
    for parameter in module.parameters():
        shape = fake_like(parameter, cast)
        known[id(parameter)] = nn.Parameter(shape, requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        known[id(buffer)] = fake_like(buffer, cast)
    return copy.deepcopy(module, known)


def fake_like(tensor: Tensor, cast: Cast) -> Tensor:
    """Return a tensor of the same layout on the CPU."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=cast(tensor.dtype), device="cpu"
    )
