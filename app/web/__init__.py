"""The page at `/`: static files, and the endpoints that send them. The page itself uses the API alone."""
