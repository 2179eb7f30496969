"""Models and data of the bundle: what the notebooks import. Importing it does nothing."""
