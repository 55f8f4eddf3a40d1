"""Pictures, drawn by matplotlib in a process of their own; the API's process imports only `renderer`."""
