"""Speed, size and agreement of models in fewer bits."""
