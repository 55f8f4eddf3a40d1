"""The run queue, for the API and the workers: a run's states, claims, leases, the choice by cross-validation."""
