"""Models, their immutable versions, and the aliases that move between them."""
