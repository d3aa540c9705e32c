"""How the learning rate moves."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("schedules")
