"""Counts floating-point operations by part of a model, and the bytes of all live tensors."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    conv_flop_count,
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

aten = torch.ops.aten
# torch's own counter lacks the attention that runs on a CPU
ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu
ATTENTION_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward
LOSSES_PART = "losses"  # the part of what belongs to no part


class FlopMemoryCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is not annotated
    """Sees every operation inside the block, also those of a backward.

    A matrix product of (m, k) and (k, n) is 2 m k n operations, a convolution 2 for each weight and
    output; what is done number by number isn't counted, as in ``torch.utils.flop_counter``. An
    operation of a backward belongs to the part whose forward made its place in the graph.

    Attributes:
        forward, backward: {part: operations}.
        live, peak: bytes of all tensors that were made inside the block or announced: now, at most.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's is not annotated
        self.forward: Counter[str] = Counter()
        self.backward: Counter[str] = Counter()
        self.live = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}
        self._part = LOSSES_PART
        self._starts: list[int] = [0]  # of stretches of the graph, by number of their first node
        self._owners: list[str] = [LOSSES_PART]  # of those stretches

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        counted = flops_of_call(func._overloadpacket, args, kwargs, found)
        if counted:
            node = torch._C._current_autograd_node()
            if node is None:
                self.forward[self._part] += counted
            else:
                place = bisect_right(self._starts, node._sequence_nr()) - 1
                self.backward[self._owners[place]] += counted
        return found

    def add(self, tensor: Tensor) -> None:
        """Announce a tensor; views of one storage count once, until nothing refers to it."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key)

    def restart(self) -> int:
        """Begin to look for the peak anew; return what is live now."""
        self.peak = self.live
        return self.live

    @contextmanager
    def parts(self, named: dict[str, nn.Module]) -> Iterator[None]:
        """Tell {part: module} apart by what their forwards run; they don't contain each other."""
        handles = []
        for name, module in named.items():
            handles.append(module.register_forward_pre_hook(lambda *_, n=name: self._enter(n)))
            handles.append(module.register_forward_hook(lambda *_: self._enter(LOSSES_PART)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, part: str) -> None:
        if torch._C._current_autograd_node() is not None:
            return  # computed again within a backward: its nodes belong to the first time's part
        self._part = part
        self._starts.append(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]
        self._owners.append(part)

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)


def flops_of_call(packet: Any, args: Any, kwargs: Any, found: Any) -> int:
    """Return the floating-point operations of a call, 0 for what isn't counted."""
    if packet == ATTENTION:
        shapes = [one.shape for one in args[:3]]
        return int(sdpa_flop_count(*shapes))  # type: ignore[no-untyped-call]  # torch's is not annotated
    if packet == ATTENTION_BACKWARD:
        shapes = [one.shape for one in args[:4]]
        return int(sdpa_backward_flop_count(*shapes))  # type: ignore[no-untyped-call]  # torch's is not annotated
    if packet == aten.convolution_backward:
        return convolution_backward_flops(args)
    count = flop_registry.get(packet)
    return 0 if count is None else int(count(*args, **kwargs, out_val=found))


def convolution_backward_flops(args: Any) -> int:
    """Return the operations of a convolution's gradients: as many as its forward's for each.

    torch's own counter takes a convolution of G groups for one of a single group here, which is G
    times too much.
    """
    gradient, inputs, weight, transposed, wanted = (args[i] for i in (0, 1, 2, 7, 10))
    once = conv_flop_count(inputs.shape, weight.shape, gradient.shape, transposed)
    return int(once) * int(sum(wanted[:2]))
