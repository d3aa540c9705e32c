"""What turns raw rows of a modality into features."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("encoders")
