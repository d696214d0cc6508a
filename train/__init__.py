"""One training loop, one step class per network."""
