"""Events: what has happened, written in commit order, and read as pages or live streams."""
