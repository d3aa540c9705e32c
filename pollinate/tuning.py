"""How much of an encoder trains."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("tuning")
