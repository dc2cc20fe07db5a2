"""What a user of the command line can put right: shown as one line, without a traceback."""


class BenchmarkError(Exception):
    """A wrong name, a missing path, data that can't be had; the message says what to do."""


class Unreadable(BenchmarkError):
    """An image that can't be decoded; the message names it and says why."""
