"""What a GPU gives."""
