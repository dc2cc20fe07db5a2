"""How exact a map is for its number of gradients, and how fewer or cheaper ones do.

    python -m benchmarks.quadrature
    python -m benchmarks.quadrature --tables convergence samples steps --data cifar10 --root DIR --weights FILE
    python -m benchmarks.quadrature --tables screening precision --data cifar10 --root DIR --weights FILE

prints the tables and writes them as quadrature.md, report.html and a csv each; convergence also draws convergence.png.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quadrature.convergence import convergence
from benchmarks.quadrature.fewer import samples, screening, steps
from benchmarks.quadrature.precision import precision
from benchmarks.quadrature.problems import resnet18
from benchmarks.quadrature.settings import Settings
from benchmarks.run.command_line import add_options, check_writable, exit_code
from benchmarks.run.gpus import own_device
from benchmarks.tables import page, report
from captum_wg.report import Report

# Their titles, and what makes them, of the ResNet-18; convergence has networks of its own.
TABLES = {
    "convergence": ("Error over gradients", convergence),
    "samples": ("A few points in place of many samples", samples),
    "steps": ("Steps until the delta is small", steps),
    "screening": ("Half of the baselines, chosen by a coarse first look", screening),
    "precision": ("Faster forms of the model", precision),
}


def run(given: argparse.Namespace) -> None:
    """Make the tables, print them and write them."""
    started = time.perf_counter()
    tables = list(dict.fromkeys(given.tables))
    settings = Settings(**{name: value for name, value in vars(given).items() if name != "tables"})
    own_device(settings.device)
    out = Path(settings.out)
    check_writable(out, out)
    problem = None if tables == ["convergence"] else resnet18(settings)
    text, shown = "# Quadrature\n", []
    for name in tables:
        title, make = TABLES[name]
        part, frames = make(settings, problem)
        print(f"\n## {title}\n\n{part}", flush=True)
        text += f"\n## {title}\n\n{part}\n"
        for file, frame in frames.items():
            frame.to_csv(out / f"{file}.csv", index=False)
            shown.append(page.of_frame(f"{title} ({file}.csv)", frame))
        # After each table: what is there stays, whatever becomes of the next.
        (out / "quadrature.md").write_text(text, encoding="utf-8")
    report.write_page(out, lambda: Report("Quadrature", tables=tuple(shown)))
    print(f"\n{time.perf_counter() - started:.0f} s; written to {settings.out}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 if the settings can't be used."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quadrature",
        description="How exact a map is for its number of gradients, and how fewer or cheaper ones do.",
    )
    usual = ["convergence"]
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=usual, help="which tables (convergence)")
    add_options(parser, Settings)
    return exit_code(run, parser.parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
