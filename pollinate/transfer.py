"""How knowledge from elsewhere reaches a run."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("transfer")
