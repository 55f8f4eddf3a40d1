"""The worker: a light parent process that claims runs, and a trainer child where torch lives."""
