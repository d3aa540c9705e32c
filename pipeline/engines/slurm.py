"""Jobs of Slurm, by submitit."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.engines.engine import Engine, Order, Outcome
from pipeline.engines.remote import RemoteHandle, Supervisor, carried
from pollinate.errors import PollinateError, UsageError

FOLDER = "slurm"  # below the study's, with a folder for each of its starts
REQUEUES = 1000  # a trial that takes longer than its job goes on until the study's own timeout
NOT_ENDED = "UncompletedJobError"  # of submitit's, for a job that Slurm or a signal ended


class SlurmTask(Supervisor):
    """What a job runs. Its names are submitit's: at the end of its time it is queued again."""

    def __call__(self, order: Order) -> Outcome:
        # Lightning would take it for a job with a task for each device, and start none itself
        os.environ.pop("SLURM_NTASKS", None)
        return self.run(order, order.stop.exists)

    def checkpoint(self, order: Order) -> Any:
        """Save, and return what goes on with it; None: it can't, or has come to its end."""
        import submitit

        outcome = self.save()
        if outcome.code == 0 or order.resume is None:
            return None
        return submitit.helpers.DelayedSubmission(SlurmTask(outcome), order)


class SlurmEngine(Engine):
    """A job of Slurm for each process. At the end of its time it is queued again, and goes on.

    Args:
        partition: where jobs are queued; None: Slurm's default.
        time: minutes of a job, >= 1; a process that takes longer is queued again.
        cpus: processors of a process; gpus: its GPUs; memory: its gigabytes, None: Slurm's default.
        grace: seconds before the end of its time at which a process is asked to save, > 0.
        options: others of sbatch: ``{account: vision, constraint: a100}``.
        cluster: ``slurm``, or ``local`` to try it on this machine.

    Raises:
        UsageError: a number is out of its range.

    Examples:
        >>> import pollinate as po
        >>> po.engines.SlurmEngine(partition="gpu", time=240, cpus=8, gpus=1).threads(jobs=20)
        8
    """

    def __init__(
        self,
        partition: str | None = None,
        time: int = 60,
        cpus: int = 1,
        gpus: int = 0,
        memory: float | None = None,
        grace: int = 120,
        options: Mapping[str, Any] | None = None,
        cluster: str = "slurm",
    ) -> None:
        if not (time >= 1 and cpus >= 1 and gpus >= 0 and (memory is None or memory > 0)):
            raise UsageError(
                "engine.time and engine.cpus must be >= 1, engine.gpus >= 0 and engine.memory > 0, "
                f"got {time}, {cpus}, {gpus} and {memory}"
            )
        if not 0 < grace < 60 * time:
            raise UsageError(
                f"engine.grace must be > 0 and less than engine.time, {60 * time} seconds, got "
                f"{grace}; saving takes a step, or what is left of a validation"
            )
        if cluster not in ("slurm", "local"):
            raise UsageError(f"engine.cluster must be slurm or local, got {cluster}")
        self.parameters: dict[str, Any] = {
            "timeout_min": time,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,  # None is not said
            "mem_gb": memory,
            "slurm_signal_delay_s": grace,
            "slurm_partition": partition,
            "slurm_additional_parameters": dict(options) if options else None,
        }
        self.cpus = cpus
        self.cluster = cluster
        self._folder: Path | None = None
        self._executor: Any = None

    def check(self) -> None:
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            raise PollinateError(
                "engine=slurm must be started where jobs are submitted: there is no sbatch on this "
                "machine; engine.cluster=local tries it here, without Slurm"
            )

    def open(self, folder: Path) -> None:
        import submitit  # optional

        # a new one, which nobody can have filled: what jobs return is unpickled from it
        self._folder = folder.absolute() / FOLDER / secrets.token_hex(8)
        self._folder.mkdir(parents=True, mode=0o700)
        try:
            self._executor = submitit.AutoExecutor(
                self._folder, cluster=self.cluster, slurm_max_num_timeout=REQUEUES
            )
            self._executor.update_parameters(**self.parameters)
        except (RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
            raise PollinateError(f"engine=slurm can't be used: {error}") from error

    def close(self) -> None:
        """Remove submitit's files; jobs that still run have their own in the study."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            with suppress(OSError):  # others may be there
                self._folder.parent.rmdir()
            self._folder = None

    def threads(self, jobs: int) -> int:
        return self.cpus

    def submit(self, order: Order) -> SlurmHandle:
        order.stop.unlink(missing_ok=True)
        self._executor.update_parameters(
            name="".join(c if c.isalnum() else "-" for c in order.title)
        )
        try:
            job = self._executor.submit(SlurmTask(), carried(order))
        except Exception as error:  # submitit has no type for it
            reason = " ".join(str(error).split())
            raise PollinateError(f"Slurm refuses a job: {reason:.300}") from error
        return SlurmHandle(order, job)


class SlurmHandle(RemoteHandle):
    """A job of Slurm."""

    def __init__(self, order: Order, job: Any) -> None:
        super().__init__(order)
        self._job = job
        self._withdrawn = False

    def outcome(self) -> Outcome | None:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if not self._job.done():
            return None
        self.order.stop.unlink(missing_ok=True)
        if self._withdrawn and self.seconds is None:
            return Outcome(message="it was withdrawn")
        try:
            outcome: Outcome = self._job.result()
        except (FailedJobError, UncompletedJobError) as error:
            text = str(error).strip()
            told = next((line for line in reversed(text.splitlines()) if line.strip()), "no reason")
            gone = isinstance(error, UncompletedJobError) or NOT_ENDED in text
            message = f"job {self._job.job_id} ended without a result: {told.strip()}"
            return Outcome(None, self.seconds or 0.0, message=message, lost=gone)
        return outcome

    def ask(self) -> None:
        self.order.stop.touch()
        if self.seconds is None:  # it waits; one that begins just now looks for the file
            self._withdrawn = True
            self.kill()

    def kill(self) -> None:
        with suppress(Exception):  # it may have ended, or Slurm be away
            self._job.cancel(check=False)
