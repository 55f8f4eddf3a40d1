"""Whether the service is alive, and whether it is ready to answer."""
