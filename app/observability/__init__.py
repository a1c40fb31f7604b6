"""Metrics, logs, stage times."""
