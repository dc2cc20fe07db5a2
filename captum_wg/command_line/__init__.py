"""captum-wg: maps of one's own photographs from the command line."""

from captum_wg.command_line.main import main

__all__ = ["main"]
