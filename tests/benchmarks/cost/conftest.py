import pytest

from benchmarks.cost import workloads
from benchmarks.cost.workloads import Settings


@pytest.fixture(scope="session")
def settings():
    sizes = dict(images=2, baselines=3, n_steps=4, n_samples=5, metric_images=2, levels=12)
    return Settings("tiny", **sizes, gradient_rows=4, forward_rows=8)


@pytest.fixture
def task(settings):
    return workloads.make_task(settings)
