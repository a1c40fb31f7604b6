"""The gateway and everything a request touches. Never imports torch."""

__version__ = "0.1.0"
