"""A run's history: journals in the run folder, sent to MLflow by a process of their own.

The training process only appends lines to files. Importing this package imports neither
MLflow nor Lightning; the sender process stays small that way.
"""
