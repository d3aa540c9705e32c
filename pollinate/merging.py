"""Ways to make one model of several."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("merging")
