"""Papers and slides from the results."""
