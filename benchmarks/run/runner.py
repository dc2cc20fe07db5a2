"""Working off cells: whatever the engine and the number of workers, the same results, each made once.

A cell is a pure function of its arguments, whose table goes into a `Store`. Cells that the store holds are not done
again, so a run that was killed goes on where it was. joblib carries the cells to processes of this machine and to a
dask cluster; ray gets them as its own tasks, because joblib's pool of ray actors does not survive a lost worker.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import joblib
import pandas as pd
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.run.command_line import check_options, integer_from, option
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.gpus import compute_here
from benchmarks.run.store import Key, Store

# How often a cell, or a round of cells, is tried again after its worker was lost.
RETRIES = 3

# How long a dask scheduler may take to answer; ray has its own limit.
ANSWER_SECONDS = 10

# The threads of a process share the global random generators and torch's settings.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Cell:
    """One piece of work: `function(*arguments)` gives the table to store under `key`.

    Function and arguments must be picklable and decide the table entirely.
    """

    key: Key
    function: Callable[..., pd.DataFrame]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Engine:
    """Where cells are worked off; nothing of it changes a result.

    Attributes:
        backend: "local" for processes of this machine, "dask" or "ray" for a cluster.
        jobs: None is 1 for "local", one for each core of a cluster that is started, and all of one that runs.
        address: None starts a cluster on this machine for the run.
        gpus: whether each worker needs a GPU of its own.

    Raises:
        ValueError: a value that its option can't have.
        BenchmarkError: options that exclude each other.
    """

    backend: str = option(
        "processes here, a dask or a ray cluster (%(default)s)", default="local", choices=("local", "dask", "ray")
    )
    jobs: int | None = option(
        "workers, each of which holds the network and the data in its own memory (1; of a cluster that is started: one "
        "for each core)",
        default=None,
        type=integer_from(1),
    )
    address: str | None = option("of a running cluster, such as tcp://host:8786 (dask) or auto (ray)", default=None)
    gpus: bool = False

    def __post_init__(self) -> None:
        check_options(self)
        if self.address is not None and self.backend == "local":
            raise BenchmarkError(f"--address {self.address} needs --backend dask or ray")
        if self.address is not None and self.backend == "dask" and self.jobs is not None:
            raise BenchmarkError(
                "--jobs can't be given with --backend dask --address: all workers of that cluster serve; leave it out"
            )


Do = Callable[[Store, Sequence[Cell]], Iterator[Any]]


class Runner:
    """An engine at work, as a context manager that starts and ends a cluster of its own.

        with Runner(Engine(jobs=4)) as runner:
            runner.run(store, cells, "maps")

    Args:
        progress: show a bar over the cells.
    """

    def __init__(self, engine: Engine | None = None, progress: bool = True):
        self.engine, self.progress = engine or Engine(), progress
        self._stack = contextlib.ExitStack()
        self._do: Do | None = None

    def __enter__(self) -> Runner:
        start = {"local": _local, "dask": _dask, "ray": _ray}[self.engine.backend]
        self._do = self._stack.enter_context(start(self.engine))
        return self

    def __exit__(self, *error: object) -> None:
        self._do = None
        self._stack.close()

    def run(self, store: Store, cells: Sequence[Cell], label: str = "cells") -> int:
        """Work off the cells that the store does not hold yet.

        Returns:
            how many there were to do.

        Raises:
            BenchmarkError: workers are lost again and again, or write where this process does not see it.
            Exception: what a cell raises; those finished by then are stored.
        """
        if self._do is None:
            raise ValueError("a Runner works inside a with statement only")
        missing = _missing(store, cells)
        todo, failures = len(missing), 0
        progress = {"total": len(cells), "initial": len(cells) - todo, "disable": not self.progress}
        with tqdm(desc=label, unit="cell", **progress) as bar:
            while missing:
                lost = None
                try:
                    for _ in self._do(store, missing):
                        bar.update()
                except Exception as error:
                    if not _is_lost_worker(error):
                        raise
                    lost = error
                left = _missing(store, cells)
                if left and lost is None:
                    raise BenchmarkError(
                        f"{len(left)} results of workers did not arrive in {store.folder}; give --out as a full path "
                        "on a file system that all workers share"
                    )
                failures = failures + 1 if len(left) == len(missing) else 0
                if failures == RETRIES:
                    raise BenchmarkError(
                        f"workers were lost {RETRIES} times in a row without finishing a cell ({lost}); they may have "
                        "been short of memory: try fewer --jobs"
                    ) from lost
                missing = left
                bar.n = len(cells) - len(left)
                bar.refresh()
        return todo


def work(store: Store, cell: Cell) -> None:
    """Do one cell in this process and store its result."""
    compute_here()
    store.check_visible()
    if store.has(cell.key):
        return
    with one_thread():
        table = cell.function(*cell.arguments)
    store.write(cell.key, table)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch and BLAS compute on one thread and by deterministic kernels, and no other thread is inside.

    Sums of another order have other last bits, so this holds for every worker, also the only one.
    """
    with _one_at_a_time:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with (
                threadpool_limits(1),
                torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            ):
                yield
        finally:
            torch.set_num_threads(before)


def _joblib(**backend: Any) -> Do:
    def do(store: Store, cells: Sequence[Cell]) -> Iterator[Any]:
        with joblib.parallel_config(**backend):
            parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
            yield from parallel(joblib.delayed(work)(store, cell) for cell in cells)

    return do


@contextlib.contextmanager
def _local(engine: Engine) -> Iterator[Do]:
    yield _joblib(backend="loky", n_jobs=engine.jobs or 1, inner_max_num_threads=1)


@contextlib.contextmanager
def _dask(engine: Engine) -> Iterator[Do]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise BenchmarkError("--backend dask needs dask: pip install 'captum-wg[dask]'") from error
    with contextlib.ExitStack() as stack:
        address: Any = engine.address
        if address is None:
            workers = engine.jobs or joblib.cpu_count()
            address = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None))
        try:
            client = stack.enter_context(Client(address, timeout=ANSWER_SECONDS, set_as_default=False))
        except (OSError, ValueError) as error:
            raise BenchmarkError(f"no dask scheduler answers at {engine.address}: {error}") from error
        yield _joblib(backend="dask", n_jobs=-1, client=client)


@contextlib.contextmanager
def _ray(engine: Engine) -> Iterator[Do]:
    try:
        import ray
    except ImportError as error:
        raise BenchmarkError("--backend ray needs ray: pip install 'captum-wg[ray]'") from error
    started = not ray.is_initialized()
    if started:
        here: dict[str, Any] = {} if engine.address else {"num_cpus": engine.jobs, "include_dashboard": False}
        try:
            ray.init(address=engine.address or "local", log_to_driver=False, **here)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BenchmarkError(f"no ray cluster answers at {engine.address}: {error}") from error
    remote = ray.remote(work).options(max_retries=RETRIES, num_cpus=1, num_gpus=int(engine.gpus))

    def do(store: Store, cells: Sequence[Cell]) -> Iterator[Any]:
        waiting = [*reversed(cells)]
        running: list[Any] = []
        limit = engine.jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            while waiting or running:
                # A few more than run at once, so that no worker waits for this process.
                while waiting and len(running) < (engine.jobs or 2 * limit):
                    running.append(remote.remote(store, waiting.pop()))
                done, running = ray.wait(running)
                try:
                    yield from ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
        finally:
            for task in running:
                ray.cancel(task)

    try:
        yield do
    finally:
        if started:
            ray.shutdown()


def _missing(store: Store, cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if not store.has(cell.key)]


def _is_lost_worker(error: BaseException) -> bool:
    """Whether a worker died under its cell, whichever engine says so."""
    if isinstance(error, BrokenProcessPool):
        return True
    # dask and ray may not be installed.
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    return bool(names & {"distributed.KilledWorker", "ray.WorkerCrashedError", "ray.NodeDiedError"})
