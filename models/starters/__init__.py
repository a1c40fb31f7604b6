"""Models that Athanor brings in by itself at first start."""

from models.starters.rows import STARTERS, Starter, get_starter

__all__ = ["STARTERS", "Starter", "get_starter"]
