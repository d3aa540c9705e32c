"""What a user gets from ``data=mine.yaml preset=NAME`` and nothing else, on public data sets."""
