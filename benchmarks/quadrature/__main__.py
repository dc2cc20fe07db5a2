"""How exact a map is for its number of gradients, and how fewer or cheaper ones do.

    python -m benchmarks.quadrature
    python -m benchmarks.quadrature --tables convergence samples steps --data cifar10 --root DIR --weights FILE
    python -m benchmarks.quadrature --tables screening precision --data cifar10 --root DIR --weights FILE

prints the tables and writes them as quadrature.md and a csv each; convergence also draws convergence.png.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.quadrature.convergence import convergence
from benchmarks.quadrature.fewer import samples, screening, steps
from benchmarks.quadrature.precision import precision
from benchmarks.quadrature.problems import resnet18
from benchmarks.quadrature.settings import Settings, parse
from benchmarks.run.command_line import check_writable, exit_code
from benchmarks.run.gpus import own_device

TITLES = {
    "convergence": "Error over gradients",
    "samples": "A few points in place of many samples",
    "steps": "Steps until the delta is small",
    "screening": "Half of the baselines, chosen by a coarse first look",
    "precision": "Faster forms of the model",
}
# Of the ResNet-18; convergence has networks of its own.
TABLES = {"samples": samples, "steps": steps, "screening": screening, "precision": precision}


def run(settings: Settings) -> None:
    """Make the tables, print them and write them."""
    started = time.perf_counter()
    own_device(settings.device)
    out = Path(settings.out)
    check_writable(out, out)
    parts = ["# Quadrature"]
    problem = resnet18(settings) if set(settings.tables) & set(TABLES) else None
    for name in dict.fromkeys(settings.tables):
        part = [f"## {TITLES[name]}"]
        if problem is None or name == "convergence":
            text, frames = convergence(settings)
        else:
            text, frames = TABLES[name](problem, settings)
            part.append(
                f"{problem.name}, n = {len(problem.x)} correctly classified images, K = {settings.baselines} reference "
                f"images, seed {settings.seed}, {torch.get_num_threads()} threads."
            )
        part.append(text)
        print("\n\n".join(["", *part]), flush=True)
        parts += part
        for file, frame in frames.items():
            frame.to_csv(out / f"{file}.csv", index=False)
        # After each table: what is there stays, whatever becomes of the next.
        (out / "quadrature.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"\n{time.perf_counter() - started:.0f} s; written to {settings.out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 if the settings can't be used."""
    return exit_code(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
