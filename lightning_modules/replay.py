"""Repeats a step's forward with the weights after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lightning_modules.distributed import moving_buffers


class Replay:
    """Repeats a forward with the same random draws, and leaves no trace of it.

    Args:
        network: its buffers, running statistics of norms among them, are put back afterwards.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._random: Tensor | None = None
        self._random_cuda: list[Tensor] = []

    def mark(self) -> None:
        """Remember the random state before the forward."""
        self._random = torch.get_rng_state()
        self._random_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, draws are those since ``mark``; afterwards all is as it was."""
        assert self._random is not None
        with torch.no_grad(), self.without_side_effects():
            torch.set_rng_state(self._random)
            for device, state in enumerate(self._random_cuda):
                torch.cuda.set_rng_state(state, device)
            yield

    @contextmanager
    def without_side_effects(self) -> Iterator[None]:
        """Put random state and buffers back afterwards."""
        buffers = {name: buffer.clone() for name, buffer in moving_buffers(self.network).items()}
        with torch.random.fork_rng():
            yield
            with torch.no_grad():
                for name, buffer in moving_buffers(self.network).items():
                    buffer.copy_(buffers[name])
