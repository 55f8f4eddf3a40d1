"""`/metrics` for Prometheus. The counters of a single process are in `app.instruments`."""
