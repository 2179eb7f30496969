"""What is done with the hand-in: `python -m bundle <verb>`."""
