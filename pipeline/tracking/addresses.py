"""To which tracking servers a run may be sent: those that the user names, never a folder alone.

A run folder, a checkpoint or a study may be a stranger's, and name a server of theirs. What a
resumed run sends has the user's name, command line and uncommitted changes in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from pipeline.tracking.mlflow_settings import DATABASE, resolve_uri
from pipeline.tracking.redact import redact_text
from pollinate.errors import UsageError
from pollinate.overrides import override
from pollinate.program import shell_command

VARIABLE = "MLFLOW_TRACKING_URI"  # MLflow's own
_LOGIN = re.compile(r"(?<=://)[^/]*@")


def without_login(uri: str) -> str:
    """Return ``http://host`` of ``http://user:password@host``."""
    return _LOGIN.sub("", uri, count=1)


def own_addresses(tracking: Mapping[str, Any] | None = None) -> list[str]:
    """Return the addresses that the user names: in ``tracking``, in MLflow's variable, by default.

    Args:
        tracking: as composed from the user's own command line; None: the command has none.
    """
    named = [(tracking or {}).get("uri"), os.environ.get(VARIABLE), DATABASE]
    return [_absolute(uri) for uri in named if uri]


def own_address(found: str, own: list[str]) -> str | None:
    """Return the user's own form of an address, with any login; None: the user doesn't name it."""
    bare = without_login(_absolute(found))
    return next((uri for uri in own if without_login(uri) == bare), None)


def require_own_address(found: object, own: list[str], what: object, key: str, else_: str) -> None:
    """Check that an address that a folder brings is one that the user names, too.

    Args:
        found: the address; None: nothing is sent.
        own: of ``own_addresses``.
        what: the folder, for the message.
        key: of the command line that names an address; else_: what it can do instead.

    Raises:
        UsageError: it isn't.
    """
    if found is None or (isinstance(found, str) and own_address(found, own) is not None):
        return
    shown = without_login(redact_text(str(found)))
    raise UsageError(
        f"{what} names the tracking server {shown}, which your own configuration doesn't; if it is "
        f"yours, say so: {key}={shown}, or {VARIABLE}={shown} in the environment; {else_}"
    )


def address_overrides(uri: str | None, key: str) -> list[str]:
    """Return what a command line must add so that it names an address; nothing for one's own."""
    if uri is None or own_address(uri, own_addresses()) is not None:
        return []
    return [override(key, without_login(redact_text(uri)))]


def sync_command(uri: str | None, what: str) -> str:
    """Return the command that sends ``run_dir=...`` or ``runs=...``, for a message."""
    return shell_command("sync", what, *address_overrides(uri, "uri"))


def _absolute(uri: str) -> str:
    try:
        return resolve_uri(uri)
    except UsageError:  # it is said where the address is used
        return uri
