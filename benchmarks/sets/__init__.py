"""Data files of public data sets, and how they are trained."""
