"""Steps per second of the training loop, beside a plain loop and the Trainer of transformers."""
