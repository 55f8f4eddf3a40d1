"""Sweeps: searches over configurations, whose trials are runs."""
