"""Collective operations over the processes of a run, and what they send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

_LOCAL_ONLY: ContextVar[bool] = ContextVar("alone", default=False)


def is_distributed() -> bool:
    """Say whether there are other processes to exchange numbers with here."""
    if _LOCAL_ONLY.get():
        return False
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def local_only(active: bool = True) -> Iterator[None]:
    """Inside, this process exchanges nothing: its rows are all that there are.

    Args:
        active: False changes nothing.
    """
    token = _LOCAL_ONLY.set(active or _LOCAL_ONLY.get())
    try:
        yield
    finally:
        _LOCAL_ONLY.reset(token)


@dataclass
class CommunicationStats:
    """Counts of one process.

    floats_sent: numbers of weights, gradients and running statistics that the process gave to
        others, however the exchange is done; losses and scores are not counted.
    synchronisations: how often all processes waited for each other to exchange them.
    """

    floats_sent: int = 0
    synchronisations: int = 0

    def add(self, floats: int) -> None:
        """Count numbers that are sent."""
        self.floats_sent += floats

    def state_dict(self) -> dict[str, int]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.floats_sent = state["floats_sent"]
        self.synchronisations = state["synchronisations"]

    def metrics(self) -> dict[str, float]:
        """Return the counts as they are logged, none where nothing was sent."""
        if not self.synchronisations:
            return {}
        return {f"traffic/{name}": float(count) for name, count in asdict(self).items()}


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes (sum N_r, ...), and where this one's begin.

    The gradient of each process' losses reaches the rows of the others.
    """
    if not is_distributed():
        return rows, 0
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, count)
    sizes = [int(one) for one in counts]
    # all processes must give as many rows: the missing ones are zeros
    padded = functional.pad(rows, (*(0, 0) * (rows.dim() - 1), 0, max(sizes) - len(rows)))
    parts = [part[:size] for part, size in zip(AllGather.apply(padded), sizes, strict=True)]
    return torch.cat(parts), sum(sizes[: distributed.get_rank()])


def gather_tensors(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield, for each tensor, those of rank 0, 1, ..., whatever their shapes and types are.

    Many are sent at once: an exchange of one number takes as long as one of thousands.

    Args:
        tensors: as many on each rank, in the same order.
    """
    rank, world = distributed.get_rank(), distributed.get_world_size()
    shapes: list[Any] = [None] * world
    distributed.all_gather_object(shapes, [(one.shape, one.dtype) for one in tensors])
    sizes = [[shape.numel() * dtype.itemsize for shape, dtype in own] for own in shapes]
    most = [max(alike) for alike in zip(*sizes, strict=True)]  # bytes
    device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
    end = 0
    while end < len(tensors):
        begin, end = end, end + 1
        while end < len(tensors) and sum(most[begin : end + 1]) <= BUCKET_BYTES:
            end += 1
        part = slice(begin, end)
        own = [one.detach().reshape(-1).to(device).view(torch.uint8) for one in tensors[part]]
        longest = max(sum(each[part]) for each in sizes)
        sent = functional.pad(torch.cat(own), (0, longest - sum(sizes[rank][part])))
        received = [torch.empty_like(sent) for _ in range(world)]
        distributed.all_gather(received, sent)
        parts = [
            torch.split(flat[: sum(each[part])], each[part])
            for flat, each in zip(received, sizes, strict=True)
        ]
        for place, tensor in enumerate(tensors[part]):
            yield [
                # a copy begins where a number of any size may
                flat[place].clone().view(dtype).view(shape).to(tensor.device)
                for flat, (shape, dtype) in zip(
                    parts, (own[begin + place] for own in shapes), strict=True
                )
            ]


class AllGather(torch.autograd.Function):
    """Tensors of all processes; the gradient of each is summed over all processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of rank 0, 1, ...: all of one shape."""
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Return the sum of all processes' gradients of this one's tensor."""
        total = torch.stack(gradients)
        distributed.all_reduce(total)
        return total[distributed.get_rank()]


def mean_losses(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean of the processes' losses; the gradient stays this process's own."""
    if not losses or not is_distributed():
        return dict(losses)
    own = torch.stack([loss.detach() for loss in losses.values()])
    mean = own.clone()
    distributed.all_reduce(mean)
    mean /= distributed.get_world_size()
    differences = (mean - own).unbind()
    return {t: loss + d for (t, loss), d in zip(losses.items(), differences, strict=True)}


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over all ranks, on the CPU; the values themselves in a single process."""
    if not is_distributed():
        return values
    on_gpu = distributed.get_backend() == "nccl"
    shared = values.cuda() if on_gpu else values.clone()
    distributed.all_reduce(shared)
    return shared.cpu()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Say whether the flag is set on any rank; every rank gets the same answer.

    Also asked by processes that are ``local_only``: whether to stop concerns them all.

    Args:
        flag: of this rank.
        device: on which ranks exchange tensors.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return flag
    value = torch.tensor(int(flag), device=device)
    distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
    return bool(value.item())


BUCKET_SIZE = 1 << 23  # numbers that are sent at once
BUCKET_BYTES = 1 << 26


def trained_parameters(module: nn.Module, moved: Iterable[nn.Parameter]) -> dict[str, Tensor]:
    """Return the parameters that an optimizer moves, in the order of names, tied ones once.

    The list doesn't depend on the rows that a process had: else one's head of a task would be
    averaged with another's head of another task.
    """
    kept = {id(parameter) for parameter in moved}
    found = {name: p.data for name, p in module.named_parameters() if id(p) in kept}
    return dict(sorted(found.items()))


class FixedBuffers(nn.Module):
    """A part of a network whose buffers don't change in training: all processes have the same."""


def moving_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that training changes, statistics of norms say, in the order of names."""
    fixed = fixed_buffers(network)
    return {name: own for name, own in sorted(network.named_buffers()) if name not in fixed}


def fixed_buffers(network: nn.Module) -> set[str]:
    """Return the names of the other buffers."""
    parts = [(n, p) for n, p in network.named_modules() if isinstance(p, FixedBuffers)]
    return {f"{path}.{name}" for path, part in parts for name, _ in part.named_buffers()}


def keep_from_ddp(module: nn.Module, names: Iterable[str]) -> None:
    """Let DDP leave buffers alone, which it sends to all processes before each step."""
    leave_alone = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
    leave_alone(module, sorted(names))  # type: ignore[no-untyped-call]  # of torch


def mean_over_processes(
    tensors: Mapping[str, Tensor], traffic: CommunicationStats
) -> dict[str, Tensor]:
    """Return the processes' mean of each tensor, added up in 32 bits or more.

    What is no float, such as the batches that a BatchNorm has counted, has no mean: it is rank 0's.

    Args:
        tensors: of the same names, shapes and order on all processes.
        traffic: counts what is sent.
    """
    if not is_distributed():
        return dict(tensors)
    found = {}
    for names in buckets(tensors):
        parts = [tensors[name] for name in names]
        floating = parts[0].is_floating_point()
        kind = torch.promote_types(parts[0].dtype, torch.float32) if floating else parts[0].dtype
        flat = torch.cat([part.detach().flatten().to(kind) for part in parts])
        if floating:
            distributed.all_reduce(flat)
            flat /= distributed.get_world_size()
            traffic.add(flat.numel())
        else:
            distributed.broadcast(flat, 0)
        for name, own, mean in zip(
            names, parts, torch.split(flat, [part.numel() for part in parts]), strict=True
        ):
            found[name] = mean.view_as(own).to(own.dtype)
    return {name: found[name] for name in tensors}


def buckets(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Yield names of tensors of one type, about BUCKET numbers at a time."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        bucket: list[str] = []
        size = 0
        for name, tensor in tensors.items():
            if tensor.dtype == dtype:
                bucket.append(name)
                size += tensor.numel()
                if size >= BUCKET_SIZE:
                    yield bucket
                    bucket, size = [], 0
        if bucket:
            yield bucket


def full_weight(weight: Tensor) -> Tensor:
    """Return all of a weight, differentiable: each process's piece gets its piece of the gradient.

    For a trunk that reads its parts' weights outside their forward, in a penalty say, which every
    process must do alike. A weight that isn't sharded is returned as it is.
    """
    return weight.full_tensor() if isinstance(weight, DTensor) else weight
