"""What code results are made by: part of their settings, so that those of other code are not taken for the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import captum_wg
import quantus_ext

_HERE = Path(__file__).parents[1]


def _digests() -> dict[Path, str]:
    folders = [Path(str(module.__file__)).parent for module in (captum_wg, quantus_ext)]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    files += [path for pattern in ("*.py", "*.csv") for path in sorted(_HERE.rglob(pattern))]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# Taken once: a process that lives on works with the modules that it imported, whatever the files say by now.
_DIGESTS = _digests()


def versions(files: Sequence[str]) -> dict[str, str]:
    """The versions of packages, and as "source" a checksum of this project's two and of files of this folder.

    The checksum is of the files as they were when this process imported them.
    """
    found = {}
    for package in ("torch", "torchvision", "captum", "quantus", "numpy", "scipy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    of_packages = [digest for path, digest in _DIGESTS.items() if not path.is_relative_to(_HERE)]
    of_files = [digest for path, digest in _DIGESTS.items() if path.is_relative_to(_HERE) and path.name in files]
    # The version number does not change with every change of the code.
    found["source"] = hashlib.sha256("".join(of_packages + of_files).encode()).hexdigest()[:16]
    return found
