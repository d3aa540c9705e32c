"""What runs the trials of a study."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("engines")
