"""Many models in bounded memory, for as long as one likes."""
