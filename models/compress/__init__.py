"""Graphs in fewer bits: made here, compared with what they were made from, and timed beside it."""
