"""Gradients and outputs of the explained function, in micro-batches of bounded size."""
