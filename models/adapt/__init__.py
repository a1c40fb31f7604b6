"""Adapters: what of a network is trained, how that is kept, loaded, merged. Imports torch."""
