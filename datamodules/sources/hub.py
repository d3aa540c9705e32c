"""Data sets of the Hugging Face hub."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from datamodules.cache import Cache
from datamodules.sources.arrow import concat_datasets
from datamodules.sources.base import Source
from datamodules.table import SourceTable
from pollinate.errors import PollinateError

PATIENCE = 5  # seconds


class Hub(Source):
    """Downloads a data set, once, and maps it into memory; its splits are the column ``split``.

    Args:
        repo: as in its address, ``owner/name``.
        config: which of its configurations; None: the only one.
        revision: branch, tag or commit; None: the newest.

    Examples:
        >>> from pathlib import Path
        >>> import pandas as pd, pollinate as po
        >>> Path("owner/tea").mkdir(parents=True)  # in place of an address, a folder
        >>> frame = pd.DataFrame({"review": ["good tea"], "stars": [5]})
        >>> frame.to_parquet("owner/tea/train.parquet")
        >>> rows = po.sources.Hub("owner/tea").table()
        >>> rows.names, list(rows.columns["split"])
        (['review', 'stars', 'split'], ['train'])
    """

    def __init__(self, repo: str, config: str | None = None, revision: str | None = None) -> None:
        self.repo = repo
        self.config = config
        self.revision = revision
        self.location = f"hf://datasets/{repo}"

    def load(self, cache: Cache) -> SourceTable:
        """Download what is not in Hugging Face's own cache.

        Raises:
            PollinateError: there is no network, no such data set, or it needs its own code.
        """
        import datasets
        from huggingface_hub.errors import HfHubHTTPError

        if not is_reachable(datasets.config.HF_ENDPOINT):
            go_offline()
        try:
            loaded: Any = datasets.load_dataset(self.repo, self.config, revision=self.revision)
        except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
            raise PollinateError(self._failed(error)) from error
        parts = {str(name): part for name, part in loaded.items()}
        table = concat_datasets(list(parts.items()), list(parts), "split")
        table.digest = "-".join(part._fingerprint for part in parts.values())
        return table

    def _failed(self, error: Exception) -> str:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        name = self.repo.rpartition("/")[2]
        return (
            f"{self.repo} can't be had from the hub: {reason}. Without network give a "
            f"local copy: on a machine that has one, hf download --repo-type dataset {self.repo} "
            f"--local-dir {name}; then source: parquet with path: '{name}/**/*.parquet' (or csv, "
            "json, image_folder: whatever files it has)"
        )


def is_reachable(endpoint: str) -> bool:
    """Say whether the hub answers; behind a proxy nothing is known, so it may.

    The hub's own client tries for half a minute where there is no network.
    """
    if getproxies():
        return True
    address = urlsplit(endpoint)
    try:
        with socket.create_connection((address.hostname, address.port or 443), PATIENCE):
            return True
    except OSError:
        return False


def go_offline() -> None:
    """Have Hugging Face's packages use what they have, without asking the network."""
    import datasets
    import huggingface_hub

    datasets.config.HF_HUB_OFFLINE = True
    huggingface_hub.constants.HF_HUB_OFFLINE = True
