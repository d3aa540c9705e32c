"""Several transfer methods in one run."""

from __future__ import annotations

from collections.abc import Mapping

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import HookedModule
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.group import TransferGroup
from pollinate.errors import UsageError


class Several(TransferGroup):
    """Methods one after the other: what they add to the losses is added up.

    Factors on the loss of a task's labels are multiplied.

    Args:
        methods: {name: method}, in the order in which they set the run up.

    Raises:
        UsageError: there are none, or several that fork and merge.

    Examples:
        >>> import pollinate as po
        >>> start, teacher = po.transfer.Init("runs/first"), po.transfer.Hinton("runs/first")
        >>> transfer = po.transfer.Several({"start": start, "teacher": teacher})
        >>> model = po.MultiTaskModule(data, dim=16, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> "distil/mood" in trainer.callback_metrics
        True
    """

    def __init__(self, methods: Mapping[str, Transfer]) -> None:
        super().__init__(methods)
        if not methods:
            raise UsageError(
                "transfer.methods must name methods, got none: transfer.methods={start: {name: "
                "init, source: RUN}}"
            )
        branching = [name for name, method in methods.items() if method.trains_branches]
        if len(branching) > 1:
            raise UsageError(
                "transfer.methods may name one method that trains branches, got "
                f"{' and '.join(branching)}: a run has one kind of rounds; name all "
                "transfer.targets in one"
            )

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Set all up, each under its name."""
        return [
            f"{name}: {line}"
            for name, method in self.named().items()
            for line in method.setup(module, datamodule, sources)
        ]
