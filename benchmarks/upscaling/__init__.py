"""Super-resolution: how good, how fast, how much memory."""
