"""Rows: the declarative base, the tables, and sessions that commit at the edge."""
