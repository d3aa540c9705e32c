"""How many rows of each data set a step has."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("samplers")
