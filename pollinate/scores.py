"""What guesses, before any transfer, how much a source will help."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("scores")
