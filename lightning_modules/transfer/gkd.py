"""GKD: a divergence between forward and reverse, on labels or on the student's own answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from zlib import crc32

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from datamodules.batch import Batch, MixedBatch
from datamodules.counter_rng import uniforms
from datamodules.inputs import InputColumns
from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.divergences import generalized_divergence
from lightning_modules.encoders.language_model import without_padding
from lightning_modules.hooks import HookedModule
from lightning_modules.network import MultiTaskNetwork
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.answer_teachers import Keeping
from lightning_modules.transfer.distillation import Distillation
from lightning_modules.transfer.teachers import DistillationBatch, TeacherOption
from pollinate.errors import UsageError


class GKD(Distillation):
    """L_teachers = mean of D_b(teacher || student), as ``generalized_divergence`` has it.

    Of answers in words it is the mean over an answer's own tokens, its end included, then over
    rows. With probability l a step's answers of a task are not the labels but drawn from the
    student, token by token, and the teachers say of each token what they would have written: so
    the student learns at its own mistakes. Nothing is differentiated through the draw. Such a step
    needs no labels, takes rows without one, too, and has no loss on labels: with a < 1 that is
    left to the others. What is drawn depends on the seed, the step and the row alone.

    Args:
        beta: b, in [0, 1]: 0 is forward KL, 1 reverse KL, 0.5 the Jensen-Shannon divergence.
        on_policy: l, in [0, 1]; 0: the labels' tokens alone.
        sampling: temperature at which the student's answers are drawn, > 0.
        teachers, map, inputs, alpha, temperature, top_k: as for ``Distillation``. The divergence is
            not multiplied by T^2.

    Source: Agarwal et al. 2024, "On-policy distillation of language models", algorithm 1. There a
        batch is the student's or the labels' with probability l, here each task of a batch.

    Examples:
        >>> import pollinate as po
        >>> transfer = po.transfer.GKD("runs/first", beta=0.5)
        >>> model = po.MultiTaskModule(data, transfer=transfer, sources=po.SourceOpener())
        >>> trainer.fit(model, data)
        >>> trainer.callback_metrics["distil/mood"].item() > 0
        True
    """

    def __init__(
        self,
        teachers: TeacherOption,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what it is
        inputs: Mapping[str, Mapping[str, InputColumns]] | None = None,
        alpha: float = 1.0,
        temperature: float = 1.0,
        beta: float = 0.5,
        on_policy: float = 0.0,
        sampling: float = 1.0,
        top_k: int | None = None,
    ) -> None:
        super().__init__(teachers, map, inputs, alpha, temperature, top_k)
        for name, value in (("beta", beta), ("on_policy", on_policy)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must be in [0, 1], got {value}")
        if not sampling > 0:
            raise UsageError(f"sampling must be a temperature > 0, got {sampling}")
        self.beta = beta
        self.on_policy = on_policy
        self.sampling = sampling
        self.keeping = Keeping(top_k, other_answers=on_policy > 0)
        self.seed = 0  # of the run
        self.most_tokens: dict[str, int] = {}  # {task whose answers are drawn: of an answer}

    def distance(self, distil_batch: DistillationBatch) -> Tensor:
        divergence = partial(generalized_divergence, beta=self.beta, temperature=self.temperature)
        return distil_batch.mean_divergence(divergence)

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        said = super().setup(module, datamodule, sources)
        self.seed = datamodule.seed
        if self.on_policy:
            taught = {task: module.tasks[task] for task in self.opened_teachers.by_task}
            self.most_tokens = {
                name: task.longest_answer
                for name, task in taught.items()
                if task.prompt is not None
            }
            if not self.most_tokens:
                raise UsageError(
                    "on_policy draws answers in words, and none of "
                    f"{', '.join(taught)} has such answers; set transfer.on_policy=0"
                )
        return said

    def attach(self, trainer: Trainer) -> None:
        super().attach(trainer)
        if self.on_policy and isinstance(trainer.strategy, ModelParallelStrategy):
            raise UsageError(
                "on_policy needs the whole model in each process, to write answers of different "
                "lengths; choose another trainer.strategy, ddp say, or transfer.on_policy=0"
            )

    def change_batch(
        self, batch: MixedBatch, network: MultiTaskNetwork, steps_done: int
    ) -> MixedBatch:
        """Return the batch with answers that the student draws, of the tasks whose turn it is."""
        drawn = [
            task
            for task in self.taught_tasks(batch)
            if task in self.most_tokens and self._draws(task, steps_done)
        ]
        if not drawn:
            return batch
        batches = dict(batch.batches)
        for task in drawn:
            for name in self.opened_teachers.by_task[task].taught:
                if name in batches:
                    answers = self._drawn(task, name, batches[name], network, steps_done)
                    own = {**batches[name].answers, task: answers}
                    batches[name] = replace(batches[name], answers=own)
        return replace(
            batch, batches=batches, labelled={**batch.labelled, **dict.fromkeys(drawn, 0)}
        )

    def _draws(self, task: str, steps_done: int) -> bool:
        number = uniforms(self.seed, np.array([steps_done]), counter(task), count=1)
        return bool(number[0, 0] < self.on_policy)

    def _drawn(
        self, task: str, dataset: str, batch: Batch, network: MultiTaskNetwork, steps_done: int
    ) -> Tensor:
        """Return answers to the prompts of rows (N, A), of -1 where there is no prompt."""
        prompts = batch.prompts[task]
        there = (prompts != 0).any(dim=1)
        rows = batch.index[there].cpu().numpy()
        counters = np.full(len(rows), steps_done), rows
        places = (np.full(len(rows), one) for one in (counter(task)[0], counter(dataset)[0]))
        draws = uniforms(self.seed, *counters, *places, count=self.most_tokens[task])
        found = network.language_model.sample(
            task, without_padding(prompts[there], 0), torch.from_numpy(draws), self.sampling
        )
        answers = found.new_full((len(prompts), max(1, found.shape[1])), -1)
        answers[there] = found if len(rows) else answers[there]
        return answers


def counter(name: str) -> np.ndarray:
    """Return a name as a counter of ``uniforms``."""
    return np.array([crc32(name.encode())])
