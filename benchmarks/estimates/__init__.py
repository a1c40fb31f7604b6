"""How well a pre-flight tells time and memory of a job, and what telling costs."""
