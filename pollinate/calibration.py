"""Makes probabilities right as often as they say, and measures how far they are."""

from pollinate.namespaces import lazily

__all__, __getattr__, __dir__ = lazily("calibration")
