"""Datasets: which exist, how they are split, and their images."""
