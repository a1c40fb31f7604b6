"""One key floods the service, another asks now and then."""
