"""What methods have in common that put sources into this run's network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lightning_modules.transfer.base import Opener, Transfer, TransferLosses, TransferStep
from lightning_modules.transfer.borrowing import OWN, Borrowing, Mixer, viewed
from lightning_modules.transfer.head_pairs import require_own
from lightning_modules.transfer.lender import Lender
from lightning_modules.transfer.library import described
from lightning_modules.transfer.probe import probed
from lightning_modules.transfer.teacher import Teacher
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule
    from lightning_modules.transfer.source import Source

LEARNT = "borrowed"  # key of what a checkpoint says of sources in its network


class Borrower(Transfer):
    """Lets heads read what frozen sources make of the rows, beside what the trunk does.

    The sources' encoders become a part of the network and of its checkpoints: the run can be
    resumed, and its model used, where the sources are gone.

    Args:
        sources: {name of your choice: a run, or a folder of timm or transformers}.
        tasks: that borrow; None: all whose rows a source can read.

    Attributes:
        mixer: how a task mixes.

    Raises:
        UsageError: there are no sources, or one has the name of what is this run's own; no task is
            to borrow.
    """

    mixer: ClassVar[type[Mixer]]

    def __init__(self, sources: Mapping[str, str], tasks: Sequence[str] | None) -> None:
        super().__init__()
        if not sources or OWN in sources:
            raise UsageError(
                f"transfer.sources must name one source or more, none of them {OWN}, got "
                f"{', '.join(sources) or 'none'}: transfer.sources={{digits: RUN, ...}}"
            )
        if tasks is not None and not tasks:
            raise UsageError(
                "transfer.tasks must name the tasks that borrow, got none; leave it out for all"
            )
        self.sources, self.tasks = dict(sources), None if tasks is None else list(tasks)
        self._gauges: Callable[[], dict[str, float]] = dict

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return options of the mixers, as plain values."""

    def setup(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: Opener
    ) -> list[str]:
        """Put the sources into the network; one that is resumed has them in its checkpoint.

        Raises:
            PollinateError: there is no such source.
            UsageError: it reads other rows, or none that a task has; another method has put sources
                into the network.
        """
        lines: list[str] = []
        if module.network.borrowing is None:
            lines = self._borrow(module, datamodule, sources)
        borrowing = module.network.borrowing
        assert borrowing is not None
        if borrowing.claimed:
            raise UsageError(
                f"{', '.join(self.sources)} can't be put into the network, where another method's "
                f"{', '.join(borrowing.lenders)} are; name all in the transfer.sources of one"
            )
        borrowing.claimed = True
        self._gauges = borrowing.gauges
        return lines

    def losses(self, step: TransferStep) -> TransferLosses:
        """Return no losses."""
        return TransferLosses()

    def gauges(self) -> dict[str, float]:
        """Return what each task takes from which source."""
        return self._gauges()

    def _borrow(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: Opener
    ) -> list[str]:
        opened = {n: sources.open(what).one_network() for n, what in self.sources.items()}
        lenders = {n: self._lender(s, module, datamodule) for n, s in opened.items()}
        borrowers = self._borrowers(lenders, module, datamodule)
        step = probed(module, datamodule)
        lent = {name: lender(step.batch.batches) for name, lender in lenders.items()}
        mixers, known = {}, {}
        for task, names in borrowers.items():
            rows, route = step.trace.representations[task], module.network.routes[task]
            found = {
                n: viewed(module.network.views[task], [lent[n][key] for key in route])
                for n in names
            }
            refuse_lengths(task, len(rows), {n: len(one) for n, one in found.items()})
            widths = {name: one.shape[1] for name, one in found.items()}
            known[task] = {"dim": rows.shape[1], "widths": widths, **self.options()}
            mixers[task] = self.mixer(**known[task])
        module.network.borrowing = Borrowing(lenders, mixers)
        target = f"{self.mixer.__module__}.{self.mixer.__qualname__}"
        module.spec["learnt"][LEARNT] = {
            "lenders": {name: described(source) for name, source in opened.items()},
            "mixers": {task: {"_target_": target, **options} for task, options in known.items()},
        }
        return [f"{task} reads {' and '.join([OWN, *names])}" for task, names in borrowers.items()]

    def _lender(
        self, source: Source, module: MultiTaskModule, datamodule: MixedDataModule
    ) -> Lender:
        """Return a source's encoders, of modalities that this run reads."""
        teacher = Teacher(source)
        read = [m for m in module.network.encoders if m in teacher.network.encoders]
        if not read:
            raise UsageError(
                f"{source.name} reads {', '.join(teacher.network.encoders)}, and this run "
                f"{', '.join(module.network.encoders)}; choose a source of the same modality"
            )
        for modality in read:
            teacher.require_encoder(modality, module, datamodule)
        return Lender(teacher.network)

    def _borrowers(
        self,
        lenders: Mapping[str, Lender],
        module: MultiTaskModule,
        datamodule: MixedDataModule,
    ) -> dict[str, list[str]]:
        """Return {task: the sources that can read all its rows}."""
        routes = module.network.routes
        for task in self.tasks or ():
            require_own(task, list(routes))
        found = {
            task: [
                name
                for name, lender in lenders.items()
                if all(lender.reads(tuple(datamodule.datasets[d].inputs)) for d in routes[task])
            ]
            for task in (routes if self.tasks is None else self.tasks)
        }
        idle = [task for task, names in found.items() if not names]
        if idle and (self.tasks is not None or len(idle) == len(found)):
            raise UsageError(
                f"no source reads the rows of {', '.join(idle)}: {', '.join(self.sources.values())}"
                " were trained on other modalities; name tasks that can: transfer.tasks=[...]"
            )
        return {task: names for task, names in found.items() if names}


def refuse_lengths(task: str, rows: int, lent: Mapping[str, int]) -> None:
    """Check that sources see as many words or cells of the rows as this run does.

    Raises:
        UsageError: they don't.
    """
    wrong = {name: count for name, count in lent.items() if count != rows}
    if wrong:
        name, count = next(iter(wrong.items()))
        raise UsageError(
            f"{name} gives {count} words or cells of rows of which {task} reads {rows}; take a "
            "source with the same grid or tokens, or leave the task out: transfer.tasks=[...]"
        )
