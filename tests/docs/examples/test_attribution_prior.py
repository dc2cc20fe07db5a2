"""The example of an attribution prior, on one seed: the prior keeps what plain training loses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_prior_keeps_accuracy_on_clean_images(tmp_path):
    figure = tmp_path / "figure.png"
    run = subprocess.run(
        [
            sys.executable,
            ROOT / "docs/examples/attribution_prior.py",
            "--seeds",
            "1",
            "--epochs",
            "8",
            "--figure",
            figure,
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    means = run.stdout.split("means\n")[1]
    accuracies = {
        name: float(line.removeprefix(name).split()[0])
        for name in ("plain", "with the prior", "clean images")
        for line in means.splitlines()
        if line.startswith(name)
    }
    assert accuracies["plain"] < 0.87 < 0.93 < accuracies["with the prior"]
    assert accuracies["clean images"] > 0.94
    assert "training with the prior takes" in run.stdout
    assert figure.stat().st_size > 5000
