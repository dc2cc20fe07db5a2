import numpy as np
import pytest

from benchmarks.cost import workloads
from benchmarks.cost.memory import in_fresh_process, peak, resident


def test_memory_is_that_of_a_process_of_its_own(settings):
    assert 0 < resident("cpu") <= peak("cpu")
    ballast = np.ones(2**27)  # 1 GiB, which is not to be seen in the probe
    memory = in_fresh_process(workloads.probe, settings, "eg")
    assert 0 < memory.before <= memory.peak < ballast.nbytes
    with pytest.raises(KeyError, match="egg"):
        in_fresh_process(workloads.probe, settings, "egg")
