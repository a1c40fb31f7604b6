"""Goodput and refusals at twice the capacity."""
