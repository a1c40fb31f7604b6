"""How long a training takes that has next to nothing to do."""
