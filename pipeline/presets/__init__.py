"""Chooses a run's options from its data, its machine and what is installed."""
