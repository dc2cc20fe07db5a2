"""What the command line reports instead of a traceback."""


class UsageError(Exception):
    """The arguments can't be used; the message says which, why, and what to give instead."""


class ImageError(Exception):
    """One image can't be explained; the message says why, in one line."""
