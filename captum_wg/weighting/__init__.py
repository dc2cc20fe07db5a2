"""How much each baseline counts for an input."""
