"""Steps per second by how OpenMP's threads wait for each other, on free and on crowded cores."""
