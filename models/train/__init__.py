"""Training: one loop, its parts, and checkpoints from which it goes on to the same bits."""
