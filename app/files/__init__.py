"""Uploaded files: bytes and a row, judged by nobody."""
