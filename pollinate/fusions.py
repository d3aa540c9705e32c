"""How the modalities of a row become one vector."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("fusions")
