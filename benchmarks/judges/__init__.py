"""The columns of the tables: metrics with their settings."""
