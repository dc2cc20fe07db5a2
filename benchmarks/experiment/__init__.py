"""What is computed: an experiment's settings, the cells of its results, and all that a table may see of them."""
