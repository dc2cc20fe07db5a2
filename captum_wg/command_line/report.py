"""captum-wg report: one page of a folder's results."""

from __future__ import annotations

import argparse

from captum_wg.command_line.errors import UsageError
from captum_wg.report import NAME, PAGE, explained, html, read


def report(settings: argparse.Namespace) -> int:
    """Write the page of the parsed arguments' folder, and say where it is.

    Raises:
        UsageError: there is nothing to report, a package is missing, or the page can't be written.
    """
    folder = settings.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    try:
        found = read(folder) or explained(folder)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} can't be reported: {error}") from error
    if found is None:
        raise UsageError(
            f"{folder} holds nothing to report; expected NAME.json beside NAME.npz, which captum-wg explain writes to "
            f"its --out, or {NAME}, which the commands of benchmarks write to their --out (of an older run the same "
            "command again writes it, and computes nothing anew)"
        )
    path = settings.out or folder / PAGE
    try:
        page = html(found).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(page)
    except ImportError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"--out {path} can't be written: {error.strerror}") from error
    print(f"wrote {path} ({len(page) / 1e6:.2f} MB)")
    return 0
