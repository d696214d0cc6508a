"""Training losses, one family a file; every loss is minimized and states its range."""
