"""What a map costs: evaluations, seconds, memory."""
