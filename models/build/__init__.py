"""Networks from the libraries that have them. Imports torch: never imported by the gateway."""
