"""Training losses, one family a file; every loss is minimised and states its range."""
