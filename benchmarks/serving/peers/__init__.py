"""The peers, each as its own documentation writes it, all with the same decode and the same graph.

They answer what Athanor answers: `POST /v1/classification`, raw JPEG in, five labels out. Each takes its
model from `BENCH_MODEL` and its knobs from other `BENCH_*` variables (see `benchmarks/serving/servers.py`).
"""
