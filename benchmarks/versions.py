"""What code results are made by: part of their settings, so that those of other code are not taken for the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import captum_wg
import quantus_ext


def versions(files: Sequence[str]) -> dict[str, str]:
    """The versions of packages, and as "source" a checksum of this project's two and of files of this folder."""
    found = {}
    for package in ("torch", "torchvision", "captum", "quantus", "numpy", "scipy", "pillow", "captum-wg"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    digest = hashlib.sha256()
    folders = (Path(str(module.__file__)).parent for module in (captum_wg, quantus_ext))
    here = Path(__file__).parent
    for path in [*(path for folder in folders for path in sorted(folder.glob("*.py"))), *(here / n for n in files)]:
        digest.update(path.read_bytes())
    # The version number does not change with every change of the code.
    found["source"] = digest.hexdigest()[:16]
    return found
