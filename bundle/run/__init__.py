"""Execute the notebooks headless."""
