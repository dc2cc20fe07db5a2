"""What is behind `quantus_ext.explain` and `explainer`."""
