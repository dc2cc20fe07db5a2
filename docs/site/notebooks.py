"""Writes each tutorial as a notebook, too, beside its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext


def on_post_build(config: Any) -> None:
    """After the pages."""
    for source in sorted(Path(config.docs_dir, "tutorials").glob("*.py")):
        jupytext.write(jupytext.read(source), Path(config.site_dir, "tutorials", f"{source.stem}.ipynb"))
