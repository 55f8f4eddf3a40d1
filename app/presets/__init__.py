"""`/presets`: ready-made runs and sweeps by name."""
