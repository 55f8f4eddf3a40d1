"""Everything between a socket and an endpoint: connections, who may ask, bodies, representations, problem bodies."""
