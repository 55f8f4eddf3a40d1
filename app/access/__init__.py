"""`/access`: what the key of a request allows."""
