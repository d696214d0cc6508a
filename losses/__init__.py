"""Training losses, one family a file; lower is better."""
