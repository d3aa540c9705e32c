"""A notebook's kernel as a command that the warm server can run."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Answer cells until the client is done."""
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(list(arguments))
    return 0
