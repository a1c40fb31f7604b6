"""What a running service costs before anybody uses it."""
