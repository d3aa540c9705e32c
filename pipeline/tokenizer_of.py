"""The tokenizer of another run, or of a file, for a run that shall read texts as that one did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    uri = (config.get("tracking") or {}).get("uri") or DATABASE
    known = read_spec(find_checkpoint(what, uri))["learnt"]["modalities"].get("text", {})
    if "tokenizer" not in known:
        found = "that of a pre-trained encoder" if known else "no texts"
        raise UsageError(
            f"data.text.tokenizer must be a run that trained a tokenizer of its own, and {what} "
            f"has {found}; choose the same encoder/text, which brings its tokenizer"
        )
    return str(known["tokenizer"])
