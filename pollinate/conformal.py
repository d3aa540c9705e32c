"""Sets and intervals that hold the truth with a chosen probability."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("conformal")
