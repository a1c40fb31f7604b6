"""Celery workers: thin tasks around `models` and the services of `app`."""
