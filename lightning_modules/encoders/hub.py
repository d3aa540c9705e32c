"""The Hugging Face hub: asked once whether it is there, and left alone if it isn't."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 5.0  # seconds to wait for the hub's first answer


@contextmanager
def hub(wanted: bool = True) -> Iterator[None]:
    """Let what is inside use the hub if it answers, else only what was downloaded before.

    The hub's client would try each file six times, and tell of each time.

    Args:
        wanted: False: nothing asks the hub, for a model that is here.
    """
    from huggingface_hub import constants  # only a model of another library needs it

    log, offline = logging.getLogger("huggingface_hub"), constants.HF_HUB_OFFLINE
    level = log.level
    log.setLevel(logging.CRITICAL)
    constants.HF_HUB_OFFLINE = offline or not wanted or not answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        log.setLevel(level)


def answers(endpoint: str) -> bool:
    """Say whether the hub can be reached."""
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=PATIENCE)
    except Exception:  # noqa: BLE001  # whatever the reason is, it can't be reached
        return False
    return True
