"""The job store under fire: PostgreSQL, Redis, workers and runs fail while jobs are open."""
