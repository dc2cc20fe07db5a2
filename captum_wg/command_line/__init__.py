"""captum-wg: maps of one's own photographs from the command line."""

from captum_wg.command_line.arguments import main

__all__ = ["main"]
