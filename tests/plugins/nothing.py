"""Nothing in it."""
