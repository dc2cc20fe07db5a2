"""Working off cells, and keeping their results."""
