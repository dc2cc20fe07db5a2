from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiment.results import Chosen, Drawn, ModelResults, Results, Selection
from benchmarks.experiment.settings import Experiment
from benchmarks.judges.columns import JUDGES
from benchmarks.methods.weightings import EG, WG


@pytest.fixture(scope="session")
def make():
    """Results of a network that nobody asked, with random scores and no problems; `more` is of `ModelResults`."""

    def make(methods=(EG, WG, "Random"), judges=("DeletionAUC", "InsertionAUC"), images=4, model="net", **more):
        experiment = Experiment(model=model, data=more.pop("kind", "cifar10"), seed=3)
        chosen = tuple(Chosen(i, f"{i:02d}.png", i, 0) for i in range(images))
        rows = [(model, judge, method, one.name) for method in methods for judge in judges for one in chosen]
        scores = pd.DataFrame(rows, columns=["model", "judge", "method", "image"]).assign(problem="")
        scores.insert(4, "score", np.random.default_rng(0).uniform(0.2, 0.8, len(rows)))
        selection = Selection(chosen, {"used": images})
        of_model = ModelResults(experiment, "noise", selection, chosen, (3, 32, 32), scores, **more)
        return Results(tuple(map(experiment.method, methods)), tuple(JUDGES[name] for name in judges), (of_model,))

    return make


@pytest.fixture(scope="session")
def fail():
    """The results with a problem in place of the scores that pandas' query names."""

    def fail(results, problem, query):
        (model,) = results.models
        scores, where = model.scores.copy(), model.scores.query(query).index
        scores.loc[where, "score"], scores.loc[where, "problem"] = np.nan, problem
        return replace(results, models=(replace(model, scores=scores),))

    return fail


@pytest.fixture(scope="session")
def drawn_by():
    """Images of noise for a picture, with a map by each of the methods."""

    def drawn_by(names, count=2):
        generator = np.random.default_rng(0)
        maps = {name: generator.normal(size=(count, 3, 8, 8)).astype(np.float32) for name in names}
        images = tuple(Chosen(i, f"{i:02d}.png", i, 0) for i in range(count))
        return Drawn(images, generator.random((count, 3, 8, 8), dtype=np.float32), maps)

    return drawn_by
