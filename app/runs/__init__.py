"""Runs: submitting, listing, changing, cancelling, pausing and deleting them. Their results: `app.results`."""
