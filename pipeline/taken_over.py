"""What a run takes over from another before it has data: how texts are read, what labels are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.configuration.suggest import hint
from pipeline.errors import UsageError
from pipeline.locate import find_checkpoint
from pipeline.spec import read_spec
from pipeline.tracking.store import DATABASE


def tokenizer_of(config: Mapping[str, Any]) -> str:
    """Return what ``data.text.tokenizer`` names, in the format of tokenizer.json.

    Args:
        config: a composed configuration.

    Raises:
        UsageError: the run reads no texts, or reads them by a pre-trained encoder's tokenizer.
        PollinateError: there is no such run or file.
    """
    what = config["data"]["text"]["tokenizer"]
    path = Path(what).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path.read_text(encoding="utf-8")
    known = spec_of(what, config)["learnt"]["modalities"].get("text", {})
    if "tokenizer" not in known:
        found = "that of a pre-trained encoder" if known else "no texts"
        raise UsageError(
            f"data.text.tokenizer must be a run that trained a tokenizer of its own, and {what} "
            f"has {found}; choose the same encoder/text, which brings its tokenizer"
        )
    return str(known["tokenizer"])


def labels_of(config: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return what the run that a task's ``labels_of`` names has learnt of the task's labels.

    Args:
        config: a composed configuration.
        task: of the same name and type there.

    Raises:
        UsageError: that run has no such task, or one of another type.
        PollinateError: there is no such run.
    """
    node = config["data"]["tasks"][task]
    what, key = node["labels_of"], f"data.tasks.{task}"
    spec = spec_of(what, config)
    known = spec["learnt"]["tasks"]
    if task not in known:
        raise UsageError(
            f"{key}.labels_of: {what} has no task {task!r}{hint(task, known, 'its tasks')}; call "
            "the task as it is called there"
        )
    own, there = (
        one["_target_"] for one in (node["type"], spec["config"]["data"]["tasks"][task]["type"])
    )
    if own != there:
        raise UsageError(f"{key}.type must be that of {what}, {there}, got {own}")
    return dict(known[task])


def spec_of(what: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run, checkpoint or registered model says of itself."""
    uri = (config.get("tracking") or {}).get("uri") or DATABASE
    return read_spec(find_checkpoint(what, uri))
