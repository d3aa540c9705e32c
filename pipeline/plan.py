"""Show what a preset chooses and what a run will cost before it runs.

Takes what pipeline.fit takes, and reads the data for their lengths and labels; no weights are
loaded, and the devices need not be there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, CommandResult, entry_points
from pollinate.errors import UsageError

if TYPE_CHECKING:  # it imports torch
    from pipeline.planning.cost import StepCost


@dataclass(kw_only=True)
class PlanResult(CommandResult):
    """cost: of a step; largest_batch: rows that fit into ``memory``, None if it wasn't given."""

    cost: StepCost
    largest_batch: int | None


def run(config: dict[str, Any], arguments: CommandArguments) -> PlanResult:
    # imported here: torch takes seconds, and a wrong config doesn't need it
    from pipeline.text_format import parse_bytes

    limit = None if config["memory"] is None else parse_bytes(config["memory"])
    output = None if config["output"] is None else new_file(Path(config["output"]))

    from pipeline.command import silence_libraries
    from pipeline.planning.cost import cost_estimator, largest_batch
    from pipeline.planning.cost_tables import plan_values, print_plan
    from pipeline.presets.apply import apply_preset
    from pipeline.terminal import say
    from pipeline.text_format import format_bytes
    from pollinate.console import new_console
    from pollinate.files import write_json

    silence_libraries()
    console = new_console()
    chosen = apply_preset("plan", config, arguments.overrides, arguments.config_dirs)
    for line in chosen.lines:
        say(console, line)
    estimate = cost_estimator(chosen.config)
    cost, rows = estimate.cost(), estimate.data.sampler.batch_size
    print_plan(console, cost, estimate.setting, rows)
    largest = None if limit is None else largest_batch(estimate, limit)
    if largest is not None and limit is not None:
        say(console, f"into {format_bytes(limit)} a device fits sampler.batch_size={largest}")
    if output is not None:
        write_json(output, plan_values(cost, estimate.setting, rows, largest))
        say(console, f"written to {output}")
    return PlanResult(cost=cost, largest_batch=largest)


def new_file(path: Path) -> Path:
    """Return the path of a file that isn't there yet, in a folder that is."""
    if path.exists():
        raise UsageError(f"output must be a new file, {path} exists; choose another name")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"output must be in a folder, there is no {path.absolute().parent}")
    return path


call, main = entry_points("plan", run)

if __name__ == "__main__":
    sys.exit(main())
