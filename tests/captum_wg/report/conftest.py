"""A report with every part, and folders as `captum-wg explain` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captum_wg.report import (
    BEST,
    HIGHER,
    LOWER,
    TIED,
    Cell,
    Chart,
    Column,
    Line,
    Report,
    Start,
    Subject,
    Table,
    drawn,
)

SIDE = 24


def made(number: int, methods: tuple[str, ...] = ("WG", "IG"), baselines: int = 2, side: int = SIDE) -> Subject:
    random = np.random.default_rng(number)
    maps = {name: random.normal(size=(3, side, side)) for name in methods}
    starts = [
        Start(f"baseline {k + 1}", random.random((3, side, side)), random.normal(size=(side, side)), 0.25 * k, 10.0 - k)
        for k in range(baselines)
    ]
    return Subject(
        f"image {number}", "cat, probability 0.5", random.random((3, side, side)), maps, starts, "A caption."
    )


@pytest.fixture(scope="session")
def subject() -> Callable[..., Subject]:
    """An image of noise by its number, with its maps and baselines."""
    return made


@pytest.fixture(scope="session")
def report() -> Report:
    columns = (Column("method"), Column("Deletion", LOWER, ("WG",)), Column("Insertion", HIGHER), Column("why"))
    rows = (
        (Cell("WG"), Cell("0.20 ± 0.1", BEST), Cell("0.90", BEST), Cell("a")),
        (Cell("IG"), Cell("0.30 ± 0.1", TIED), Cell("-"), Cell("</script><b>c")),
        (Cell("Random"), Cell("10.0 ± 0.1"), Cell("1e-3"), Cell("b")),
    )
    line = Line("WG", (0.0, 50.0, 100.0), (0.9, 0.4, 0.125), (0.8, 0.3, 0.1), (1.0, 0.5, 0.2))
    charts = (Chart("Deletion", "removed (%)", "probability", (line, Line("IG", (0.0, 100.0), (0.9, 0.3)))),)
    examples, _ = drawn([made(0), made(1)])
    table = Table("net: n = 2 images", columns, rows, "Means.")
    return Report(
        "A run", ("All of `it`.",), "python -m x", (table,), charts, examples, ("**Note** one.", "Note <two>.")
    )


@pytest.fixture
def explained_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files of images in a folder; `more` is of the records."""

    def write(*names: str, with_baselines: bool = True, **more: Any) -> Path:
        for i, name in enumerate(names):
            one = made(i)
            rows = [{"name": start.name, "D_alpha": 10 - k, "weight": 0.5} for k, start in enumerate(one.starts)]
            arrays = {"attribution": one.maps["WG"], "pixels": one.pixels}
            if with_baselines:
                arrays["baseline_pixels"] = (255 * np.stack([start.pixels for start in one.starts])).astype(np.uint8)
                arrays["baseline_maps"] = np.stack([start.map for start in one.starts])
            record = {"image": f"{name}.jpg", "class": 7, "class_name": "cat (7)", "probability": 0.25 * (i + 1)}
            record |= {"method": "WeightedGradients", "baselines": rows, "baselines_named": "black,white"}
            record |= {"arguments": {"model": "net", "steps": 4, "seed": 0}, "seconds": 1.5, **more}
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path.with_suffix(".npz"), **arrays)
            path.with_suffix(".json").write_text(json.dumps(record))
        return tmp_path

    return write
