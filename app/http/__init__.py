"""Everything between a socket and an endpoint: connections, access, bodies, representations, problem bodies."""
