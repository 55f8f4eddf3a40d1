"""Health checks: whether the service is alive, and whether it is ready to predict."""
