import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks.run import gpus
from benchmarks.run.errors import BenchmarkError


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """Two GPUs as far as the claim can see."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"gpu-{number}"))
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    gpus._claim.cache_clear()
    yield tmp_path
    gpus._claim.cache_clear()
    while gpus._held:
        gpus._held.pop().release()


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def hold(folder, number):
    import os

    path = folder / f"captum-wg-{os.getuid()}-gpu-{number}.lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"held\n"
    return other


def test_a_worker_takes_a_gpu_that_no_other_holds_and_keeps_it(two_gpus):
    other = hold(two_gpus, 0)
    try:
        assert gpus._claim() == torch.device("cuda", 1)
        assert gpus._claim() == torch.device("cuda", 1)
    finally:
        other.kill()
        other.wait()
    gpus._claim.cache_clear()
    assert gpus._claim() == torch.device("cuda", 0)


def test_a_worker_waits_for_one_that_is_about_to_end(two_gpus, monkeypatch, capsys):
    others = [hold(two_gpus, number) for number in (0, 1)]
    waits = []

    def end_one(seconds):
        waits.append(seconds)
        others[1].kill()
        others[1].wait()

    monkeypatch.setattr(gpus.time, "sleep", end_one)
    try:
        assert gpus._claim() == torch.device("cuda", 1) and len(waits) == 1
        assert capsys.readouterr().err == "waiting for one of 2 GPUs, which other workers hold\n"
    finally:
        others[0].kill()
        others[0].wait()


def test_more_workers_than_gpus(two_gpus, monkeypatch):
    monkeypatch.setattr(gpus, "WAIT_SECONDS", 0.0)
    others = [hold(two_gpus, number) for number in (0, 1)]
    try:
        with pytest.raises(BenchmarkError, match="other workers hold all 2 GPUs"):
            gpus._claim()
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_only_workers_take_gpus(two_gpus, monkeypatch):
    monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
    monkeypatch.setattr(gpus, "_computes", False)
    assert gpus.own_device(gpus.EACH) == torch.device("cuda") and not gpus._held
    gpus.compute_here()
    assert gpus.own_device(gpus.EACH) == torch.device("cuda", 0) and len(gpus._held) == 1


def test_devices_by_name(monkeypatch):
    assert gpus.own_device("cpu") == torch.device("cpu")
    with pytest.raises(BenchmarkError, match="--device nonsense can't be used here"):
        gpus.own_device("nonsense")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    gpus._claim.cache_clear()
    with pytest.raises(BenchmarkError, match=r"--device cuda:\*: there is no CUDA device here"):
        gpus.own_device("cuda:*")
