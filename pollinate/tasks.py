"""What can be predicted: head, loss, metrics and labels."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("tasks")
