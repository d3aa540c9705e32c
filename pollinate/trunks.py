"""How tasks share a network."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("trunks")
