"""A data file as a user writes it."""

from __future__ import annotations

SHOP = """\
datasets:
  reviews:
    source: csv
    path: reviews.csv
    split: {train: 0.8, valid: 0.1, test: 0.1}
    inputs: {text: review}
tasks:
  sentiment: {dataset: reviews, type: classification, target: stars}
"""
