"""Saved models: the leaderboard, and the champion that `/predict` uses."""
