"""What ``${...}`` in a file may stand for: another key, and not more than a configuration holds.

OmegaConf's resolvers read the environment, decode and create values. A file may be a stranger's,
and a value that it took from the environment would be stored in the run's configuration, in its
checkpoints and in MLflow; so resolvers are for the command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pollinate.errors import UsageError
from pollinate.foreign import MOST_DEPTH, texts_in

_KEY = r"[A-Za-z_]\w*(?:\.\w+|\[\w+\])*"
# ${dim}, ${data.image.size}, ${oc.select:data.image.size,null}
REFERENCE = re.compile(rf"\$\{{(?:oc\.select:\s*(?P<maybe>{_KEY})\s*,\s*\w*\s*|(?P<key>{_KEY}))\}}")
MOST_CHARACTERS = 10_000_000


def refuse_resolvers(plain: Any, where: str) -> None:
    """Check that all interpolations name keys, from the configuration's top.

    Args:
        plain: content of a file.
        where: it is from, for the message.

    Raises:
        UsageError: one calls a resolver, is relative, or has another inside it.
    """
    for key, text in texts_in(plain):
        if names_more_than_keys(text):
            raise UsageError(
                f"{where}: {key}={text:.80} must name a key from the top of the configuration, as "
                "${data.image.size} does: only the command line may read the environment; give it "
                "there: 'KEY=${oc.env:NAME}'"
            )


def names_more_than_keys(text: str) -> bool:
    return "${" in REFERENCE.sub("", text)


def check_expansion(config: DictConfig) -> None:
    """Check how much a configuration holds once its interpolations are resolved.

    Raises:
        UsageError: too much, or a value stands inside itself.
    """
    plain = OmegaConf.to_container(config, resolve=False)
    if any("${" in text for _, text in texts_in(plain)):
        _Expansion(plain).size(plain, "")


class _Expansion:
    """Counts characters and values; a key's are counted once, however often it is named."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.known: dict[str, int | None] = {}  # None: being counted
        self.depth = 0

    def size(self, node: Any, path: str) -> int:
        found = 1
        if isinstance(node, str):
            keys = (match["key"] or match["maybe"] for match in REFERENCE.finditer(node))
            found = len(node) + sum(self.named(key, path) for key in keys)
        elif isinstance(node, Mapping):
            found += sum(self.size(value, f"{path}.{key}") for key, value in node.items())
        elif isinstance(node, list):
            found += sum(self.size(value, f"{path}[{i}]") for i, value in enumerate(node))
        if found > MOST_CHARACTERS:
            raise UsageError(
                f"{path.lstrip('.')} must not stand for more than {MOST_CHARACTERS:,} characters "
                f"and values, and does by what its ${{...}} name"
            )
        return found

    def named(self, key: str, where: str) -> int:
        if key not in self.known:
            self.known[key] = None
            self.depth += 1
            if self.depth > MOST_DEPTH:
                raise UsageError(
                    f"{where.lstrip('.')} names {key} through more than {MOST_DEPTH} other keys"
                )
            self.known[key] = self.size(_select(self.root, key), f".{key}")
            self.depth -= 1
        found = self.known[key]
        if found is None:
            raise UsageError(f"{where.lstrip('.')} stands inside itself: it names {key}")
        return found


def _select(node: Any, key: str) -> Any:
    for part in re.split(r"[.\[\]]+", key.rstrip("]")):
        if isinstance(node, Mapping):
            node = node.get(part, node.get(int(part)) if part.isdecimal() else None)
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            return None  # OmegaConf says what is missing
    return node
