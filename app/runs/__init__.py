"""Runs: submitting, queueing, watching, and what they leave behind."""
