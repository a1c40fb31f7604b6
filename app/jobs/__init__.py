"""Jobs: a row per unit of work, an event per change of it. The row is the truth; messages are doorbells."""
