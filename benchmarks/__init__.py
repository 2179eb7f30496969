"""How fast the bundle is, as ratios against what a user would otherwise run: `python -m benchmarks`."""
