"""Compressed versions of models: what may be asked, and checking it at the door."""
