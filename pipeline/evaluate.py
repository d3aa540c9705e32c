"""Measure a checkpoint on one split of the data that it was trained on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, CommandResult, entry_points

if TYPE_CHECKING:  # it imports torch
    from pipeline.evaluation import Evaluation


@dataclass(kw_only=True)
class EvaluateResult(CommandResult):
    """evaluation: the scores; file: where they are written."""

    evaluation: Evaluation
    file: Path


def run(config: Mapping[str, Any], _: CommandArguments) -> EvaluateResult:
    """Evaluate, print the table, write evaluation-<split>.json."""
    # imported here: torch and Lightning take seconds, and a wrong config needs neither
    from pipeline.command import silence_libraries
    from pipeline.evaluation import evaluate, print_evaluation, results_file, write_evaluation
    from pipeline.find_checkpoint import find_checkpoint
    from pipeline.prediction.decoding import checked_decoding
    from pipeline.terminal import say
    from pollinate.console import new_console

    silence_libraries()
    console = new_console()
    checkpoint = find_checkpoint(config["checkpoint"], config["uri"])
    path = results_file(checkpoint, config["split"], config["run_dir"])
    found = evaluate(
        checkpoint,
        config["split"],
        config["batch_size"],
        config["allow_targets"],
        console,
        checked_decoding(config["decoding"]),
    )
    was_there = write_evaluation(found, path)
    print_evaluation(console, found)
    done = "replaced the earlier" if was_there else "wrote"
    say(console, f"{done} {path}")
    return EvaluateResult(evaluation=found, file=path)


call, main = entry_points("evaluate", run)

if __name__ == "__main__":
    sys.exit(main())
