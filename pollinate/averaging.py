"""How processes that train on their own come together."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("averaging")
