"""The rows of the tables: attribution methods, as ingredients and how they combine."""
