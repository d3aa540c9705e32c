"""Builds again what a checkpoint describes, which may be a stranger's or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lightning_modules.encoders.pretrained_files import local_only
from pollinate.errors import PollinateError

# how plain values of the wrong kind show in whatever reads them
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)


@contextmanager
def rebuilding(what: object = "the checkpoint") -> Iterator[None]:
    """Ask no hub for what a checkpoint names, and say of a failure that the checkpoint is to blame.

    Args:
        what: the checkpoint, for the message.

    Raises:
        PollinateError: what it says can't be built again.
    """
    token = local_only.set(True)
    try:
        yield
    except _MALFORMED as error:
        reason = " ".join(str(error).split())[:300]
        raise PollinateError(
            f"{what} can't be built again ({type(error).__name__}: {reason}); "
            "it is damaged, or not of pollinate"
        ) from error
    finally:
        local_only.reset(token)
