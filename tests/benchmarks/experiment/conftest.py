import pytest

from benchmarks.experiment.plan import evaluate
from benchmarks.experiment.results import Selection
from benchmarks.run.runner import Runner
from benchmarks.run.store import open_store

POSITIONS = (11, 5, 8)
ROWS = ("Saliency", "WeightedGradients", "ExpectedGradients", "Stability-local", "Random")
COLUMNS = ("DeletionAUC", "MaxSensitivity", "Sparseness-1ch")


@pytest.fixture
def run(ready, chosen, tmp_path):
    """Evaluates some rows and columns for images at some positions, in chunks of two."""

    def evaluated(methods=ROWS, judges=COLUMNS, positions=POSITIONS, folder="a", **options):
        images = chosen(*positions)
        selection = Selection(images, {"used": len(images)})
        with Runner(progress=False) as runner:
            judged = [(method, judge) for method in methods for judge in judges]
            store = open_store(tmp_path / folder, {})
            options = {"chunk": 2, "again": 2, **options}
            return evaluate(ready.experiment, store, runner, selection, judged, **options)

    return evaluated


@pytest.fixture
def of():
    """The scores of a method by a judge, by image."""

    def scores(results, method, judge):
        table = results.scores
        return table[(table["method"] == method) & (table["judge"] == judge)].set_index("image")["score"]

    return scores


@pytest.fixture
def files():
    """The results in a folder, and when each was written."""
    return lambda folder: {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}
