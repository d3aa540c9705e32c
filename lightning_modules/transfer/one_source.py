"""Methods that compare this run's features with those of one source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lightning_modules.transfer.base import Opener
from lightning_modules.transfer.comparing import Comparing
from lightning_modules.transfer.encoder_pairs import EncoderPairs
from lightning_modules.transfer.head_pairs import HeadPairs
from lightning_modules.transfer.pairs import Pairs
from lightning_modules.transfer.sibling_pairs import PREFIX, SiblingPairs
from lightning_modules.transfer.teacher import Teacher
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule

HEADS = "representation"


@dataclass(frozen=True)
class Compared:
    """What is compared, as a user says it.

    source: a run folder, a checkpoint, an MLflow run id, ``models:/NAME/VERSION``, a folder of timm
        or transformers, or ``task:NAME``, a task of this run.
    at: pooled, sequence or grid of encoders, or representation: what a task's head reads; None:
        the method's usual one, representation for ``task:NAME``.
    modalities: whose encoders; None: all that both have.
    tasks: {task here: task there}, or names that are the same; None: all of the same name, and for
        ``task:NAME`` all others that read the same data sets.
    """

    source: str
    at: str | None
    modalities: Sequence[str] | None
    tasks: Mapping[str, str] | Sequence[str] | None

    @property
    def sibling(self) -> str | None:
        """The task of this run that is the source, if one is."""
        return self.source.removeprefix(PREFIX) if self.source.startswith(PREFIX) else None


class OneSource(Comparing):
    """Finds pairs of features, of encoders or of heads.

    Args:
        compared: what is compared.
        weight, until: as for ``Comparing``.

    Attributes:
        kinds: values of ``at`` that the method can compare, the usual one first.

    Raises:
        UsageError: a value out of range.
    """

    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, compared: Compared, weight: float, until: int | None) -> None:
        super().__init__(weight, until)
        sibling = compared.sibling is not None
        if sibling and HEADS not in self.kinds:
            raise UsageError(
                f"transfer.source must be another model, got {compared.source}: all tasks of a run "
                f"share its encoders, whose {' or '.join(self.kinds)} is compared"
            )
        allowed = (HEADS,) if sibling else self.kinds
        self.at = compared.at or allowed[0]
        if self.at not in allowed:
            whose = f" for {compared.source}" if sibling else ""
            raise UsageError(f"transfer.at must be {' or '.join(allowed)}{whose}, got {self.at}")
        refuse_unused(compared, self.at)
        self.compared = compared

    def find_pairs(
        self, module: MultiTaskModule, datamodule: MixedDataModule, sources: Opener
    ) -> Pairs:
        """Open the source, unless it is a task of this run."""
        chosen = self.compared
        if chosen.sibling is not None:
            tasks = None if chosen.tasks is None else list(chosen.tasks)
            return SiblingPairs(chosen.sibling, tasks, module)
        teacher = Teacher(sources.open(chosen.source).one_network())
        if self.at == HEADS:
            return HeadPairs(teacher, by_name(chosen.tasks), module, datamodule)
        return EncoderPairs(teacher, chosen.modalities, self.at, module, datamodule)


def refuse_unused(compared: Compared, at: str) -> None:
    """Refuse options that would change nothing.

    Raises:
        UsageError: modalities are named where heads are compared, or tasks where encoders are.
    """
    if at == HEADS and compared.modalities is not None:
        raise UsageError(
            f"transfer.modalities is for features of encoders, and at is {HEADS}; name "
            "transfer.tasks, or set at=pooled"
        )
    if at != HEADS and compared.tasks is not None:
        raise UsageError(
            f"transfer.tasks is for what heads read, and at is {at}, of encoders; name "
            f"transfer.modalities, or set at={HEADS}"
        )


def by_name(tasks: Mapping[str, str] | Sequence[str] | None) -> dict[str, str] | None:
    """Return {task here: task there}."""
    if tasks is None:
        return None
    return dict(tasks) if isinstance(tasks, Mapping) else {task: task for task in tasks}
