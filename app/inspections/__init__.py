"""Looking inside a run: curves, layers, weights, gradients, confusion, mistakes."""
