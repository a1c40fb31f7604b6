"""How good a network is on held-out data, as numbers and as one page. Torch-free."""
