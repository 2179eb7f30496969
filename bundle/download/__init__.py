"""Fetch published data sets."""
