"""How exact a map is for its number of gradients."""
