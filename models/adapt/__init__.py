"""Adapters: what is trained on a base, how it is saved, and how it becomes one network again."""
