"""A client that measures a server over HTTP: what it sends and when, what comes back, and whether it was itself the limit."""
