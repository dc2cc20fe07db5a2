"""Where along the paths from baselines to an input gradients are taken, and how they are averaged."""
