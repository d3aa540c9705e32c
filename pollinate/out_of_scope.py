"""How unlike the rows that a model was made for a row is."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("out_of_scope")
