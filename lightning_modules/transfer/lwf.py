"""Learn new tasks without forgetting those that another model knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import HookedModule
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.hinton import Hinton
from lightning_modules.transfer.init import Init
from lightning_modules.transfer.several import Several
from pollinate.errors import UsageError


class LwF(Several):
    """L = sum_new L_t + sum_old T^2 KL(softmax(z_source / T) || softmax(z / T)).

    The run starts from the source's weights. What the source answers on the new tasks' rows is what
    the old tasks, those that no data set has labels of (``labels_of``), go on answering; none of
    their own rows is needed. Their weight is that of any task: ``balancer=fixed``.

    Source: Li and Hoiem 2016, "Learning without forgetting", section 3; to train the new heads
    alone first, as there, is left to ``encoder.MODALITY.tune=gradual``.

    Args:
        source, parts, map: as for ``Init``.
        temperature: T, > 0.

    Examples:
        >>> import pollinate as po
        >>> reviews = po.Dataset("reviews.csv", inputs={"text": "review"})
        >>> old = po.tasks.Classification((), unlabelled="reviews")
        >>> old.known = po.load("runs/first").tasks["stars"].state_dict()  # its classes
        >>> tasks = {"mood": po.tasks.Classification("reviews", target="mood"), "stars": old}
        >>> data = po.MixedDataModule({"reviews": reviews}, tasks)
        >>> transfer = po.transfer.LwF("runs/first")
        >>> model = po.MultiTaskModule(data, dim=16, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> trainer.callback_metrics["distil/stars"].item() >= 0  # 0 is: as the source says
        True
    """

    def __init__(
        self,
        source: str,
        parts: Sequence[str] | None = None,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what a user calls it
        temperature: float = 2.0,
    ) -> None:
        super().__init__({"start": Init(source, parts, map)})
        self.source, self.temperature = source, temperature

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Take the weights over, and let the source teach the old tasks.

        Raises:
            PollinateError: there is no such source.
            UsageError: there is no old task, or weights, classes or tokenizers don't fit.
        """
        specs = datamodule.tasks.items()
        old = [task for task, spec in specs if set(spec.unlabelled) == set(spec.datasets)]
        if not old:
            raise UsageError(
                "transfer=lwf needs old tasks, which no data set has labels of: data.tasks.NAME="
                f"{{type: TYPE, unlabelled: {next(iter(datamodule.datasets))}, "
                f"labels_of: {self.source}}}"
            )
        teachers = dict.fromkeys(old, self.source)
        self.methods["old"] = Hinton(teachers, alpha=1.0, temperature=self.temperature)
        return super().setup(module, datamodule, sources)
