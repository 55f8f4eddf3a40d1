"""What a run leaves behind, as JSON and as pictures: metrics, checkpoints, layers, mistakes."""
