import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info

from benchmarks.run import runner as runners
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Cell, Engine, Runner, one_thread
from benchmarks.run.store import open_store

ROOT = Path(__file__).parents[3]

# In a file of its own, so that the processes of every engine can import it.
WORK = '''
import os, signal, time
from pathlib import Path
import pandas as pd, torch

def convolve(number, folder, seconds=0.0, kill=None):
    """A number that depends on the order of its sums; the worker kills itself once where `kill` says so."""
    with open(Path(folder) / "calls", "a") as calls:
        calls.write(f"{number} {os.getpid()} {torch.get_num_threads()}\\n")
    time.sleep(seconds)
    if kill is not None and not (Path(folder) / "killed").exists():
        (Path(folder) / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    generator = torch.Generator().manual_seed(number)
    x, w = (torch.randn(shape, generator=generator) for shape in ((4, 16, 32, 32), (16, 16, 3, 3)))
    return pd.DataFrame({"number": [number], "sum": [torch.conv2d(x, w).tanh().sum().item()]})

def fail(number):
    raise ArithmeticError(f"cell {number} failed")

def die():
    os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture
def work(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "tasks_of_runner_test.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "lib"), str(ROOT)]))
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    sys.modules.pop("tasks_of_runner_test", None)
    import tasks_of_runner_test

    return tasks_of_runner_test


def cells_of(work, tmp_path, count=6, **changes):
    return [Cell(("sums", f"{n:03d}"), work.convolve, (n, str(tmp_path), *changes.values())) for n in range(count)]


def run(folder, cells, engine=None):
    store = open_store(folder, {"seed": 0})
    with Runner(engine, progress=False) as runner:
        runner.run(store, cells)
    return store.read_all([cell.key for cell in cells])


def calls(tmp_path):
    return [line.split() for line in (tmp_path / "calls").read_text().splitlines()]


def needs(backend):
    if backend != "local":
        pytest.importorskip({"dask": "distributed"}.get(backend, backend), reason=f"{backend} is not installed")


@pytest.mark.parametrize("backend", ["local", "dask", "ray"])
def test_two_workers_of_which_one_is_killed_give_the_serial_table(backend, work, tmp_path):
    needs(backend)
    serial = run(tmp_path / "serial", cells_of(work, tmp_path))
    assert serial["number"].tolist() == list(range(6))
    (tmp_path / "calls").unlink()

    cells = cells_of(work, tmp_path)
    cells[2] = Cell(cells[2].key, work.convolve, (2, str(tmp_path), 0.2, "kill"))
    parallel = run(tmp_path / backend, cells, Engine(backend, jobs=2))
    pd.testing.assert_frame_equal(parallel, serial, check_exact=True)
    assert (tmp_path / "killed").exists()
    done = calls(tmp_path)
    assert [number for number, *_ in done].count("2") >= 2
    assert str(os.getpid()) not in {pid for _, pid, _ in done}
    assert {threads for *_, threads in done} == {"1"}


def test_a_dask_cluster_that_is_running_is_used_and_left_running(work, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    serial = run(tmp_path / "serial", cells_of(work, tmp_path, 3))
    (tmp_path / "calls").unlink()
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        pids = {str(worker.pid) for worker in cluster.workers.values()}
        parallel = run(tmp_path / "dask", cells_of(work, tmp_path, 3), Engine("dask", address=address))
        assert cluster.status == distributed.Status.running
    pd.testing.assert_frame_equal(parallel, serial, check_exact=True)
    assert {pid for _, pid, _ in calls(tmp_path)} == pids


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    needs("dask")
    monkeypatch.setattr(runners, "ANSWER_SECONDS", 1)
    engine = Engine("dask", address="tcp://127.0.0.1:9")
    with (
        pytest.raises(BenchmarkError, match=r"no dask scheduler answers at tcp://127\.0\.0\.1:9"),
        Runner(engine),
    ):
        pass


@pytest.mark.parametrize("backend", ["local", "dask", "ray"])
def test_a_cell_that_fails_ends_the_run_with_its_own_error(backend, work, tmp_path):
    needs(backend)
    cells = [*cells_of(work, tmp_path, 1), Cell(("sums", "bad"), work.fail, (7,))]
    with pytest.raises(ArithmeticError, match="cell 7 failed"):
        run(tmp_path / "out", cells, Engine(backend, jobs=2))


def test_a_finished_run_does_nothing_and_a_longer_one_only_what_is_missing(work, tmp_path):
    first = run(tmp_path / "out", cells_of(work, tmp_path, 2))
    assert len(calls(tmp_path)) == 2
    longer = run(tmp_path / "out", cells_of(work, tmp_path, 4))
    assert [number for number, *_ in calls(tmp_path)] == ["0", "1", "2", "3"]
    pd.testing.assert_frame_equal(longer[:2], first)
    with Runner(progress=False) as runner:
        assert runner.run(open_store(tmp_path / "out", {"seed": 0}), cells_of(work, tmp_path, 5)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_run_killed_at_any_moment_goes_on_and_ends_with_the_same_table(work, tmp_path):
    serial = run(tmp_path / "serial", cells_of(work, tmp_path, 5))
    (tmp_path / "calls").unlink()
    script = (
        "import sys, tasks_of_runner_test as work\n"
        "from benchmarks.run.runner import Cell, Engine, Runner\n"
        "from benchmarks.run.store import open_store\n"
        "cells = [Cell(('sums', f'{n:03d}'), work.convolve, (n, sys.argv[1], 0.3)) for n in range(5)]\n"
        "with Runner(progress=False) as runner:\n"
        "    runner.run(open_store(sys.argv[2], {'seed': 0}), cells)\n"
    )
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(out)])
    while not (out / "sums" / "001.parquet").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {path.stem for path in (out / "sums").glob("*.parquet")}
    assert {"000", "001"} <= finished < {f"{n:03d}" for n in range(5)}

    (tmp_path / "calls").unlink()
    pd.testing.assert_frame_equal(run(out, cells_of(work, tmp_path, 5)), serial, check_exact=True)
    assert {f"{int(number):03d}" for number, *_ in calls(tmp_path)} == {f"{n:03d}" for n in range(5)} - finished


def test_workers_that_die_again_and_again_end_the_run(work, tmp_path):
    with pytest.raises(BenchmarkError, match="workers were lost 3 times in a row without finishing a cell"):
        run(tmp_path / "out", [Cell(("a",), work.die), Cell(("b",), work.die)], Engine(jobs=2))


def test_results_that_arrive_elsewhere_are_noticed(tmp_path, monkeypatch):
    store = open_store(tmp_path, {})
    with Runner(progress=False) as runner:
        monkeypatch.setattr(runner, "_do", lambda store, cells: iter(cells))
        with pytest.raises(BenchmarkError, match="1 results of workers did not arrive"):
            runner.run(store, [Cell(("a",), pd.DataFrame)])


def test_one_thread_inside_as_before_outside():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"backend": "slurm"}, "backend must be one of ('local', 'dask', 'ray'), got 'slurm'"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"address": "tcp://host:1"}, "--address tcp://host:1 needs --backend dask or ray"),
        (
            {"backend": "dask", "address": "tcp://host:1", "jobs": 2},
            "--jobs can't be given with --backend dask --address",
        ),
    ],
)
def test_impossible_engines(changes, message):
    with pytest.raises((BenchmarkError, ValueError), match=re.escape(message)):
        Engine(**changes)


def test_a_runner_outside_its_with_statement(tmp_path):
    with pytest.raises(ValueError, match="inside a with statement only"):
        Runner().run(open_store(tmp_path, {}), [])


@pytest.mark.parametrize("backend, module", [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_that_is_not_installed_says_what_to_install(backend, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(BenchmarkError, match=re.escape(f"pip install 'captum-wg[{backend}]'")),
        Runner(Engine(backend)),
    ):
        pass
