"""A run's way from state to state, for the API and the workers: states, claims, leases, the choice by folds."""
