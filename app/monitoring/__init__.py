"""`/metrics` for Prometheus. What a process counts by itself: `app.instruments`."""
