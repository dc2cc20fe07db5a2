"""Images and what belongs to them."""
