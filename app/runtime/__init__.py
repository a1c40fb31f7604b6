"""The serving engine: sessions, batches, the pool of loaded versions."""
