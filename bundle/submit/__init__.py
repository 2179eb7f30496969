"""The zip that a brief asks for."""
