"""Check reported figures, and train again."""
