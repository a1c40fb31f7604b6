"""Bytes that outlive processes: content-addressed per tenant, written whole or not at all."""
