"""A small synchronous client of the HTTP API; the command line is built on it.

from app.client.client import Client

with Client("http://127.0.0.1:8000") as athanor:
    print(athanor.classify(Path("cat.jpg").read_bytes()))
"""
