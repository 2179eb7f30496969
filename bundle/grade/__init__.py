"""Judge a submission."""
