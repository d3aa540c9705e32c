"""The tasks' gradients of what they share: parameters or features, in one process or many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from lightning_modules.distributed import CommunicationStats, moving_buffers
from pollinate.errors import UsageError


class SharedGradients(ABC):
    """Where the tasks' gradients meet: they are measured, combined and sent on here.

    The rows that ``differentiate`` gathers add up over calls until ``apply`` takes them.
    """

    applies_each_call: bool  # whether each call of ``differentiate`` needs its own ``apply``

    @abstractmethod
    def differentiate(self, losses: Mapping[str, Tensor], cotangents: Mapping[str, Tensor]) -> None:
        """Add c_t dL_t / d(shared) to row t, and c_t dL_t to ``.grad`` of what t has alone.

        Args:
            losses: {task: scalar L_t}.
            slopes: {task: scalar c_t}.
        """

    @abstractmethod
    def gramian(self, tasks: Sequence[str]) -> Tensor:
        """Return J J^T over all processes: (T, T), float64, on the CPU."""

    @abstractmethod
    def jacobian(self, tasks: Sequence[str]) -> Tensor:
        """Return the rows of all processes together: (T, P)."""

    def is_finite(self, jacobian: Tensor) -> bool:
        """Say whether all numbers of all processes are finite: all of them get the same answer."""
        return bool(torch.isfinite(jacobian.sum()))

    def column_sums(self, jacobian: Tensor) -> Tensor:
        """Return what each column of the shared tensor gets: (T, P) -> (T, Q); here P is Q.

        Where a column has several rows: the sum of sign(a) g over all of them and all processes,
        a the activation.
        """
        return jacobian

    def spread(self, columns: Tensor) -> Tensor:
        """Return a column's value for each of its rows: (Q,) -> (P,)."""
        return columns

    @abstractmethod
    def apply(self, tasks: Sequence[str], weights: Tensor) -> None:
        """Send sum_t w_t row_t to ``.grad``, and forget the rows; weights: (T,)."""

    @abstractmethod
    def apply_vector(self, vector: Tensor) -> None:
        """Send a vector (P,) in place of the rows to ``.grad``, and forget the rows."""


WIDTH = 512  # columns of a Jacobian that are multiplied at once
BLOCK = 1 << 22  # columns that are sent at once
BUCKET = 1 << 23  # numbers of gradients that are sent at once


@dataclass(frozen=True)
class GradientReducer:
    """The processes whose gradients' mean is the gradient of a step.

    size: how many there are.
    traffic: counts what this process sends.
    """

    size: int = 1
    traffic: CommunicationStats = field(default_factory=CommunicationStats)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over processes."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            self.traffic.add(tensor.numel())
        return tensor

    def mean_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its mean over processes."""
        return self.sum_(tensor).div_(self.size) if self.size > 1 else tensor

    def gramian(self, jacobian: Tensor) -> Tensor:
        """Return the Gramian of the mean of the processes' Jacobians (T, P): (T, T), float64.

        Each process sums a part of the columns over all (reduce-scatter), multiplies it, and the
        parts' Gramians are added: T P + T^2 numbers are sent. The mean of the processes' own
        Gramians would be something else.
        """
        if self.size == 1:
            return gramian(jacobian)
        total = jacobian.new_zeros(len(jacobian), len(jacobian), dtype=torch.float64)
        for block in torch.split(jacobian, BLOCK, dim=1):
            total += gramian(self._scatter(block))
        return self.sum_(total) / self.size**2

    def _scatter(self, block: Tensor) -> Tensor:
        """Return this process's columns of the sum: (T, P) -> (T, P / size)."""
        padded = functional.pad(block, (0, -block.shape[1] % self.size))
        parts = padded.view(len(block), self.size, -1).transpose(0, 1).contiguous()
        own = torch.empty_like(parts[0])
        # the name since torch 2.14, which warns of the one before
        newer = getattr(distributed, "reduce_scatter_single", None)
        (newer or distributed.reduce_scatter_tensor)(own, parts.flatten(0, 1))
        self.traffic.add(parts.numel())
        return own


def gramian(jacobian: Tensor) -> Tensor:
    """Return J J^T: (T, P) -> (T, T), float64; sums of many columns are added in float64."""
    rows = jacobian.float() if jacobian.element_size() < 4 else jacobian
    whole = rows.shape[1] - rows.shape[1] % WIDTH
    parts = rows[:, :whole].view(len(rows), -1, WIDTH).transpose(0, 1)  # (P / WIDTH, T, WIDTH)
    tail = rows[:, whole:]
    return torch.bmm(parts, parts.mT).double().sum(dim=0) + (tail @ tail.T).double()


def average_gradients(parameters: Iterable[nn.Parameter], ranks: GradientReducer) -> None:
    """Replace ``.grad`` by its mean over processes.

    A parameter that got a gradient on no process keeps None; one that got none here, but
    elsewhere, gets the others'.
    """
    trained = [p for p in parameters if p.requires_grad]
    if ranks.size == 1 or not trained:
        return
    has = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32)
    has = has.to(trained[0].device)
    distributed.all_reduce(has, op=distributed.ReduceOp.MAX)
    reached = [p for p, flag in zip(trained, has.tolist(), strict=True) if flag]
    for bucket in _buckets(reached):
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [parameter.grad for parameter in bucket if parameter.grad is not None]
        flat = ranks.mean_(torch.cat([grad.flatten() for grad in grads]))
        parts = torch.split(flat, [grad.numel() for grad in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield parameters of one dtype, about BUCKET numbers at a time."""
    for dtype in dict.fromkeys(p.dtype for p in parameters):
        bucket: list[nn.Parameter] = []
        for parameter in parameters:
            if parameter.dtype == dtype:
                bucket.append(parameter)
                if sum(p.numel() for p in bucket) >= BUCKET:
                    yield bucket
                    bucket = []
        if bucket:
            yield bucket


def broadcast_buffers(module: nn.Module, ranks: GradientReducer) -> None:
    """Give every process the first one's buffers: running statistics of norms, say."""
    if ranks.size > 1:
        for buffer in moving_buffers(module).values():
            distributed.broadcast(buffer, 0)
            ranks.traffic.add(buffer.numel() if buffer.is_floating_point() else 0)


def graph_leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors whose ``.grad`` ``loss.backward()`` would fill, in no special order."""
    found, seen, stack = [], set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # only the nodes that accumulate have one
        if variable is not None:
            found.append(variable)
        stack.extend(parent for parent, _ in node.next_functions)
    return found


def shared_leaves(losses: Iterable[Tensor]) -> list[Tensor]:
    """Return the tensors that at least two of the losses reach; all of them for a single loss."""
    reached = [graph_leaves(loss) for loss in losses]
    counts = Counter(id(leaf) for found in reached for leaf in found)
    least = min(2, len(reached))
    unique = {id(leaf): leaf for found in reached for leaf in found}
    return [leaf for key, leaf in unique.items() if counts[key] >= least]


class SharedParameterFinder:
    """Remembers what several losses reached, in the order in which it was found first.

    So a vector over them means the same at each step, whatever the order of the losses, and what is
    shared stays so in a step that lacks tasks. Inputs that want gradients go with their step.
    """

    def __init__(self) -> None:
        self._known: WeakValueDictionary[int, Tensor] = WeakValueDictionary()

    def __reduce__(self) -> tuple[type[SharedParameterFinder], tuple[()]]:
        """A copy knows nothing: its network has other parameters."""
        return SharedParameterFinder, ()

    def of(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """Return what losses of this step or an earlier one share; a first one alone: all."""
        if len(losses) > 1:
            for leaf in shared_leaves(losses):
                self._known.setdefault(id(leaf), leaf)
        return list(self._known.values()) or shared_leaves(losses)


class ParameterGradients(SharedGradients):
    """One backward per task, through the graph of its own rows.

    Tasks whose rows went through the network apart cost no more than one backward of all rows;
    T tasks on the same rows cost T backwards of the shared part. Memory: T rows of P numbers.

    Args:
        parameters: those that the tasks share, P numbers in all.
        ranks: the processes of the run, each with the gradients of its own rows.

    Raises:
        UsageError: no parameter needs a gradient, or their dtypes differ.
    """

    applies_each_call = False

    def __init__(
        self, parameters: Iterable[Tensor], ranks: GradientReducer = GradientReducer()
    ) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        dtypes = {p.dtype for p in self.parameters}
        if len(dtypes) != 1:
            raise UsageError(
                "balancing gradients needs shared parameters of one dtype that are trained, got "
                f"{len(self.parameters)} of {', '.join(map(str, dtypes)) or 'none'}"
            )
        self.ranks = ranks
        self.size = sum(p.numel() for p in self.parameters)
        self._own = {id(p) for p in self.parameters}
        self._block = self.parameters[0].new_empty(0, self.size)
        self._views: list[list[Tensor]] = []  # of each row of the block, by parameter
        self._rows: dict[str, int] = {}  # {task: row} that hold gradients now
        self._reached = [False] * len(self.parameters)

    def differentiate(self, losses: Mapping[str, Tensor], cotangents: Mapping[str, Tensor]) -> None:
        """Run one backward per task."""
        self._reserve(len({*self._rows, *losses}))
        for number, (task, loss) in enumerate(losses.items()):
            alone = [leaf for leaf in graph_leaves(loss) if id(leaf) not in self._own]
            found = torch.autograd.grad(
                loss,
                [*self.parameters, *alone],
                cotangents[task].to(loss.dtype),
                retain_graph=number + 1 < len(losses),
                allow_unused=True,
            )
            self._add_row(task, found[: len(self.parameters)])
            accumulate_grad(alone, found[len(self.parameters) :])

    def gramian(self, tasks: Sequence[str]) -> Tensor:
        """Return J J^T, each process working on a part of the columns."""
        return self.ranks.gramian(self._ordered(tasks)).cpu()

    def jacobian(self, tasks: Sequence[str]) -> Tensor:
        """Return the mean of the processes' rows."""
        return self.ranks.mean_(self._ordered(tasks).clone())

    def apply(self, tasks: Sequence[str], weights: Tensor) -> None:
        """Add w J of this process; the mean over processes is left to whoever averages."""
        factors, jacobian = weights.tolist(), self._ordered(tasks)
        total = jacobian[0] * factors[0]  # faster than a product of vector and matrix
        for factor, row in zip(factors[1:], jacobian[1:], strict=True):
            total.add_(row, alpha=factor)
        self.apply_vector(total)

    def apply_vector(self, vector: Tensor) -> None:
        """Add the vector to the ``.grad`` of the parameters that a task reached."""
        parts = torch.split(vector, [p.numel() for p in self.parameters])
        reached = zip(self.parameters, parts, self._reached, strict=True)
        found = [(p, part.view_as(p)) for p, part, flag in reached if flag]
        accumulate_grad([p for p, _ in found], [part for _, part in found])
        self._rows = {}
        self._reached = [False] * len(self.parameters)

    @contextmanager
    def moved(self, by: Tensor) -> Iterator[None]:
        """Inside, the parameters are moved by a vector (P,); afterwards they are as before."""
        before = [p.detach().clone() for p in self.parameters]
        parts = torch.split(by, [p.numel() for p in self.parameters])
        with torch.no_grad():
            for parameter, part in zip(self.parameters, parts, strict=True):
                parameter.add_(part.view_as(parameter))
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters, before, strict=True):
                    parameter.copy_(value)

    def gradient(self, loss: Tensor) -> Tensor:
        """Return a scalar's gradient, the mean of the processes': (P,)."""
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        parts = [
            torch.zeros_like(p) if gradient is None else gradient
            for p, gradient in zip(self.parameters, found, strict=True)
        ]
        return self.ranks.mean_(torch.cat([part.flatten() for part in parts]))

    def _reserve(self, rows: int) -> None:
        if rows > len(self._block):
            grown = self._block.new_empty(rows, self.size)
            grown[: len(self._block)] = self._block
            self._block = grown
            sizes = [p.numel() for p in self.parameters]
            self._views = [
                [
                    v.view_as(p)
                    for v, p in zip(torch.split(row, sizes), self.parameters, strict=True)
                ]
                for row in grown
            ]

    def _add_row(self, task: str, gradients: Sequence[Tensor | None]) -> None:
        fresh = task not in self._rows
        views = self._views[self._rows.setdefault(task, len(self._rows))]
        for number, (view, gradient) in enumerate(zip(views, gradients, strict=True)):
            if gradient is not None:
                self._reached[number] = True
                view.copy_(gradient) if fresh else view.add_(gradient)
            elif fresh:
                view.zero_()

    def _ordered(self, tasks: Sequence[str]) -> Tensor:
        """Return the rows of the tasks: a view where they lie in this order."""
        numbers = [self._rows[task] for task in tasks]
        if numbers == list(range(len(tasks))):
            return self._block[: len(tasks)]
        return self._block[numbers]


def accumulate_grad(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add to ``.grad`` as a backward would: what gets None keeps what it has."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            before = parameter.grad
            parameter.grad = gradient if before is None else before + gradient


class FeatureGradients(SharedGradients):
    """Cuts a step's graph between the shared network and the heads: one backward in all.

    Every head reads a leaf of its own, so one backward of the heads gives each task's feature
    gradient; their combination then goes through the shared network once. The Gramian of the
    feature gradients stands for the parameters' (an upper bound of the objective of MGDA: Sener
    and Koltun 2018, section 3.3). Tasks that read other rows have orthogonal feature gradients.

    Args:
        ranks: the processes of the run, each with its own rows: features of different rows share
            no coordinate, so the processes' Gramians add up.
    """

    applies_each_call = True  # the graph that the combination goes through belongs to this step

    def __init__(self, ranks: GradientReducer = GradientReducer()) -> None:
        self.ranks = ranks
        self._sources: list[Tensor] = []
        self._leaves: dict[tuple[str, int], Tensor] = {}

    def __call__(self, task: str, features: Tensor) -> Tensor:
        """Return the leaf that stands for shared features in a task's head."""
        number = self._number(features)
        key = (task, number)
        if key not in self._leaves:
            self._leaves[key] = features.detach().requires_grad_()
        return self._leaves[key]

    def differentiate(self, losses: Mapping[str, Tensor], cotangents: Mapping[str, Tensor]) -> None:
        """Run the heads' backward, of all tasks at once."""
        torch.autograd.backward(
            list(losses.values()),
            [cotangents[task].to(loss.dtype) for task, loss in losses.items()],
        )

    def gramian(self, tasks: Sequence[str]) -> Tensor:
        """Return the sum over sources and processes of the feature gradients' products."""
        total = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
        for number in range(len(self._sources)):
            here = [i for i, task in enumerate(tasks) if self._gradient(task, number) is not None]
            rows = [self._gradient(tasks[i], number) for i in here]
            if rows:
                own = gramian(torch.stack([row.flatten() for row in rows if row is not None]))
                total[torch.tensor(here)[:, None], torch.tensor(here)] += own.cpu()
        if self.ranks.size > 1:
            device = self._sources[0].device if self._sources else torch.device("cpu")
            total = self.ranks.sum_(total.to(device)).cpu() / self.ranks.size**2
        return total

    def jacobian(self, tasks: Sequence[str]) -> Tensor:
        """Return the feature gradients of this process's rows."""
        rows = [
            torch.cat(
                [
                    source.new_zeros(source.numel()) if gradient is None else gradient.flatten()
                    for source, gradient in zip(self._sources, self._row(task), strict=True)
                ]
            )
            for task in tasks
        ]
        return torch.stack(rows)

    def is_finite(self, jacobian: Tensor) -> bool:
        """Ask all processes, each with its own rows."""
        return bool(torch.isfinite(self.ranks.sum_(jacobian.sum())))

    def column_sums(self, jacobian: Tensor) -> Tensor:
        """Sum over rows, also of other sources whose rows have the same shape: (T, P) -> (T, Q)."""
        sums: dict[torch.Size, Tensor] = {}
        parts = torch.split(jacobian, [source.numel() for source in self._sources], dim=1)
        for source, part in zip(self._sources, parts, strict=True):
            signed = part.view(len(jacobian), *source.shape) * source.detach().sign()
            own = signed.sum(dim=1)
            shape = source.shape[1:]
            sums[shape] = sums[shape] + own if shape in sums else own
        columns = torch.cat([own.flatten(start_dim=1) for own in sums.values()], dim=1)
        return self.ranks.sum_(columns)

    def spread(self, columns: Tensor) -> Tensor:
        """Repeat the columns for the rows of each source: (Q,) -> (P,)."""
        shapes = list(dict.fromkeys(source.shape[1:] for source in self._sources))
        own = dict(zip(shapes, torch.split(columns, [s.numel() for s in shapes]), strict=True))
        return torch.cat([own[s.shape[1:]].repeat(len(s)) for s in self._sources])

    def apply(self, tasks: Sequence[str], weights: Tensor) -> None:
        """Run the shared network's backward with the weighted sum of the feature gradients."""
        gradients: list[Tensor | None] = [None] * len(self._sources)
        for task, weight in zip(tasks, weights.tolist(), strict=True):
            for number, gradient in enumerate(self._row(task)):
                before = gradients[number]
                if gradient is not None and before is None:
                    gradients[number] = gradient * weight
                elif gradient is not None and before is not None:
                    before.add_(gradient, alpha=weight)
        self._send(gradients)

    def apply_vector(self, vector: Tensor) -> None:
        """Run the shared network's backward with the vector as its features' gradient."""
        parts = torch.split(vector, [source.numel() for source in self._sources])
        self._send([p.view_as(s) for p, s in zip(parts, self._sources, strict=True)])

    def _send(self, gradients: Sequence[Tensor | None]) -> None:
        pairs = [
            (source, gradient)
            for source, gradient in zip(self._sources, gradients, strict=True)
            if gradient is not None and source.requires_grad
        ]
        if pairs:
            torch.autograd.backward([s for s, _ in pairs], [g for _, g in pairs])
        self._sources, self._leaves = [], {}

    def _number(self, features: Tensor) -> int:
        for number, source in enumerate(self._sources):
            if source is features:
                return number
        self._sources.append(features)
        return len(self._sources) - 1

    def _row(self, task: str) -> list[Tensor | None]:
        return [self._gradient(task, number) for number in range(len(self._sources))]

    def _gradient(self, task: str, number: int) -> Tensor | None:
        leaf = self._leaves.get((task, number))
        return None if leaf is None else leaf.grad
