"""Say why: which words, pixels and sounds count in a checkpoint's answers to rows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.command import CommandArguments, CommandResult, entry_points

if TYPE_CHECKING:  # it imports torch
    from pipeline.explanation.findings import Findings

READER = ("delimiter", "quote", "encoding", "empty", "folder")  # how the input is read
OWN = ("tasks", "columns", "rows", "steps", "examples", "checks", "seed", "batch_size")


@dataclass(kw_only=True)
class ExplainResult(CommandResult):
    """page: to open; file: the same for programs; findings: the same."""

    page: Path
    file: Path
    findings: Findings


def run(config: Mapping[str, Any], _: CommandArguments) -> ExplainResult:
    """Explain, write page and file, and send them to the run's page in MLflow."""
    from pipeline.find_checkpoint import find_checkpoint
    from pipeline.prediction.input_files import check_input
    from pollinate.requirements import require

    require("captum", "explain")
    source = Path(config["input"])
    check_input(source)
    checkpoint = find_checkpoint(config["checkpoint"], config["uri"])
    other = find_checkpoint(config["other"], config["uri"]) if config["other"] else None
    # imported here: torch takes seconds, and a wrong file needs none
    from lightning_modules.predictor import Predictor
    from pipeline.command import silence_libraries
    from pipeline.explanation.explain_rows import (
        ExplainedModel,
        ExplainOptions,
        explain_source,
        open_rows,
    )
    from pipeline.explanation.explanation_page import print_findings
    from pipeline.explanation.output import explanation_folder, record_in_run, write_findings
    from pipeline.prediction.inputs import COMMAND_LINE
    from pipeline.terminal import print_labelled, say
    from pipeline.text_format import relpath
    from pollinate.console import new_console

    silence_libraries()
    folder = explanation_folder(checkpoint, config["output"], config["overwrite"])
    console = new_console()
    allow = config["allow_targets"]
    model, beside = (
        None if path is None else ExplainedModel(path, Predictor.load(path, allow), allow)
        for path in (checkpoint, other)
    )
    assert model is not None
    answers = {task: str(answer) for task, answer in config["answers"].items()}
    options = ExplainOptions(answers=answers, **{name: config[name] for name in OWN})
    reader = {name: config[name] for name in READER}
    opened = open_rows(model.predictor, source, options, **reader)
    if opened.note:
        say(console, opened.note)
    found = explain_source(model, opened.rows, options, COMMAND_LINE, console, beside)
    page, file = write_findings(found, folder)
    print_findings(console, found)
    record_in_run(checkpoint, (page, file), console)
    print_labelled(console, [("page", relpath(page)), ("data", relpath(file))])
    return ExplainResult(page=page, file=file, findings=found)


call, main = entry_points("explain", run)

if __name__ == "__main__":
    sys.exit(main())
