"""A run's results, as JSON and as pictures: metrics, checkpoints, layers, mistakes."""
