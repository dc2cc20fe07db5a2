"""The whole field by the same judges: this project's methods at several prices, other libraries', and controls.

    python -m benchmarks.field --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE --references FOLDER
    python -m benchmarks.field --data coco --root DIR --models efficientnet_lite0 --judges OverlapAUC PointingGame

prints the table and writes field.md, field.csv (means, intervals, p), scores.csv, price.png and report.html to --out,
and there keeps every result, so that the same command goes on after an interruption and a later one with more images,
methods or judges does only what is new. --dear adds the rows that take hundreds of forwards for a map, and --recipes
those of `captum_wg.recipes`, whose figures go to recipes.csv in the form of the package's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.experiment.plan import tabulate
from benchmarks.experiment.results import Results
from benchmarks.experiment.settings import command, experiments, has_masks, options
from benchmarks.judges import columns
from benchmarks.methods.of_recipes import row_of
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.command_line import exit_code
from benchmarks.tables import field, markdown, notes, page, report
from captum_wg.recipes import KINDS, RECIPES, recipes_of
from captum_wg.report import Report

SMOOTH = "smooth=3/32"
# Ours by price, which the figure joins.
LINES = {
    "ExpectedGradients": [
        *(f"{EG}(n_steps=1, pool={pool})" for pool in (20, 60)),
        *(f"{EG}(n_steps={steps}, pool={pool})" for steps, pool in ((5, 50), (10, 100))),
    ],
    "WeightedGradients": [f"{WG}(n_steps=5, pool=50)"],
    "PatchCorrected EG": [
        f"PatchCorrected({words})" for words in ("n_steps=1, pool=24, patches=6", "n_steps=5, pool=37")
    ],
    "PatchCorrected SmoothGrad": [
        row_of(one) for own in RECIPES.values() for one in own if one.method == "SmoothGrad" and one.patches
    ],
}
OURS = [name for names in LINES.values() for name in names if "pool=100" not in name]
OTHERS = (
    *("IntegratedGradients-zero", "IntegratedGradients-blur", "DeepLift", "DeepLiftShap(pool=10)"),
    *("GradientShap-references(pool=50)", "SmoothGrad", "LayerGradCam", "GuidedGradCam", "EpsilonPlus", "Occlusion"),
)
CONTROLS = ("Random", f"Random({SMOOTH})", "EdgeDetector", f"EdgeDetector({SMOOTH})", "CentredBlob")
SMOOTHED = [
    *(f"{row}(n_steps=5, pool=50, {SMOOTH})" for row in (EG, WG)),
    f"{WG}(n_steps=5, pool=50, blob=1/4)",
    f"DeepLiftShap(pool=10, {SMOOTH})",
]
DEAR = (
    LINES["ExpectedGradients"][-1],
    *("RISE", "KernelShap", "Lime", "IDGI", "GuidedIG", "BlurIG", "SpectralIG", "BEE"),
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    what = "Attribution methods of this project and of others by judges that no row was fitted to, with their price."
    parser = options("field", what, out="results/field", n_baselines=100, levels=25)
    add = parser.add_argument
    add("--methods", nargs="+", metavar="NAME", help="rows, with their settings (some thirty)")
    add("--dear", action="store_true", help=f"also {', '.join(DEAR)}")
    add("--recipes", nargs="+", type=int, choices=RECIPES, default=[], help="also the recipes of these prices")
    add("--kind", choices=KINDS, default=KINDS[0], help="whose recipes (%(default)s)")
    add("--judges", nargs="*", default=[], metavar="NAME", help="columns beside D, I, blocks and corr, such as MPRT")
    add("--only", action="store_true", help="the columns of --judges alone")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the table is written, 2 if the settings can't be used."""
    return exit_code(run, parse(arguments))


def run(settings: argparse.Namespace) -> None:
    """Compute what is missing, write the table and the figure, and print the table."""
    judges = columns.choose([*([] if settings.only else field.JUDGES), *settings.judges], has_masks(settings))
    names = settings.methods or [*OURS, *OTHERS, *SMOOTHED, *CONTROLS]
    recipes = {(price, one.name): row_of(one) for price in settings.recipes for one in recipes_of(price, settings.kind)}
    names = [*names, *(DEAR if settings.dear else ()), *recipes.values()]
    methods = experiments(settings)[0].methods(names)
    judged = [(row.name, judge.name) for row in methods for judge in judges]
    results = Results(tuple(methods), tuple(judges), tabulate(settings, judged, drawn=page.SHOWN))
    table = field.table(results, settings.seed)
    drawable = set(field.DRAWN) <= set(table["column"])
    drawn, undrawn = report.draw({"price": lambda: field.figure(table, LINES)} if drawable else {})
    how = f"{settings.n_baselines} references ({settings.baselines}), {settings.levels} levels, seed {settings.seed}."
    title, line = f"The field: {results.data}", command(settings, "field")
    explained = [field.MEANING, *notes.notes(results, settings.images), *undrawn]
    heading = [f"# {title}", report.heading(results, line, how)]
    document = markdown.document([*heading, *field.text(table), markdown.bullets(explained)])

    def shown() -> Report:
        charts = field.charts(table, LINES) if drawable else ()
        return page.of_results(results, title, report.about(results, how), line, explained, charts=charts)

    tables = report.stamped(results, field=table, scores=results.scores)
    if recipes:
        tables["recipes"] = field.of_recipes(table, recipes, settings.kind, f"{results.data}, seed {settings.seed}")
    report.write(settings.out / "field.md", document, tables, drawn, shown)
    print(document)


if __name__ == "__main__":
    sys.exit(main())
