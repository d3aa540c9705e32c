"""Where rows come from."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("sources")
