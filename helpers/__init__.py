"""Models and data of the bundle: what the notebooks and predict.py import."""
