"""Attributions of every example of a data set, streamed to disk."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_wg.datasets.fingerprint import fingerprint
from captum_wg.datasets.job import Job, work
from captum_wg.datasets.reproducible import reproducible
from captum_wg.datasets.shards import AttributionDataset, import_safetensors, open_folder
from captum_wg.datasets.source import Stream, source_of
from captum_wg.engine.checks import check_bool, check_positive_int
from captum_wg.engine.problem import PATIENCE

# parallel(tasks): calls function(*args, **kwargs) of every task, wherever, and returns the results in any order.
Parallel = Callable[[Iterable[tuple[Callable[..., int], tuple[Any, ...], dict[str, Any]]]], Iterable[int]]


def attribute_dataset(
    method: Attribution | Callable[..., Any],
    loader: Iterable[Any],
    out: str | Path,
    attribute_kwargs: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    group_size: int = 32,
    shard_size: int = 256,
    device: torch.device | str | None = None,
    seed: int = 0,
    threads: int | None = None,
    shards: slice | Sequence[int] | None = None,
    parallel: Parallel | None = None,
    show_progress: bool | None = None,
) -> AttributionDataset | None:
    """Attributions of every example of a data set, in a folder of safetensors files, written as they are made.

    A run that was killed goes on where it was when it is called again; a complete folder is just opened. Memory depends
    on the size of a shard, not on the number of examples. The same examples give the same bits whatever the loader's
    batches, however often a run was cut, and whoever made which shard: examples are attributed in groups of group_size
    by their position, with the generators of Python, numpy and torch seeded for each group and put back at the end. On
    other hardware, last bits may differ.

        maps = attribute_dataset(
            WeightedGradients(model), loader, "maps", {"baselines": baselines, "return_weights": True}
        )
        attributions, weights = maps[7]

    Several processes, each an independent part:

        attribute_dataset(..., parallel=joblib.Parallel(n_jobs=8), threads=1)   # or joblib's dask and ray backends
        attribute_dataset(..., shards=slice(rank, None, world_size))            # in each of them; one GPU in each

    Args:
        method: an attribution object, of this package or of Captum; or a callable
            (inputs, target, **attribute_kwargs) -> maps. Its maps must have a row for each example. What it is made of
            counts as settings of the folder (`captum_wg.datasets.fingerprint`), so it must not change as it is called.
        loader: a DataLoader (or another iterable of batches that starts from the beginning each time), whose batches
            are Tensors of inputs, pairs (inputs, target) or dictionaries {"inputs": ..., "target": ..., NAME: ...}. The
            inputs are a Tensor or a tuple or list of Tensors; targets are (B,), or (B, n) where each is a tuple of
            indices; any other NAME is an argument of `attribute` that has a row for each example ("baselines",
            "additional_forward_args", ...). Its order must be fixed, and reading must not draw at random.
        out: the folder. It is made if it is missing. Other data are noticed by their number, order and first group.
        attribute_kwargs: arguments of `attribute` that are the same for all examples. "target" there stands in place of
            the loader's (None: of a model that has one output). "return_convergence_delta", "return_weights" and
            "return_steps" store those, too. Generators must be int seeds.
        dtype: of the stored maps. torch.float16 halves the folder; it has 11 bits between 6e-5 and 65504, and fewer
            below. Deltas, weights and steps keep theirs.
        group_size: examples of one call of `attribute`; with 1, rows of a model may influence each other.
        shard_size: examples of a file, a multiple of group_size.
        device: where inputs go; None: where the model's parameters are, if the method has a module.
        seed: of what methods draw from the global generators (Captum's GradientShap, NoiseTunnel, dropout).
        threads: of torch; None: as many as it has now. The last bits on a CPU depend on it, so that all who work on a
            folder must have the same.
        shards: the numbers of the shards to make, or a slice of them; None: all.
        parallel: makes the shards elsewhere: a `joblib.Parallel`, or any callable that takes (function, args, kwargs)
            triples and gives the results. Needs a data set that can be indexed.
        show_progress: a progress bar over the examples; None: after five seconds, False: never.

    Returns:
        The stored maps; None as long as others have shards to make.

    Raises:
        TypeError, ValueError: an argument does not fit, the folder is of other settings (the message names the
            difference), the model's rows influence each other, maps that dtype can't hold.
        ImportError: safetensors is not installed (the extra `datasets`).
    """
    import_safetensors()
    kwargs = _check_kwargs(attribute_kwargs)
    _check_method(method)
    check_positive_int(group_size, "group_size")
    if check_positive_int(shard_size, "shard_size") % group_size:
        raise ValueError(f"shard_size must be a multiple of group_size={group_size}, got {shard_size}")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point torch.dtype such as torch.float16, got {dtype!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    if show_progress is not None:
        check_bool(show_progress, "show_progress")
    threads = torch.get_num_threads() if threads is None else check_positive_int(threads, "threads")
    place = _device(method) if device is None else torch.device(device)

    with reproducible(threads, place):
        source = source_of(loader, group_size, shard_size)
        if parallel is not None and isinstance(source, Stream):
            raise ValueError("parallel needs a loader whose data set can be indexed; leave it out, or give shards")
        first = next(iter(source.groups([0])), None)
    if first is None:
        raise ValueError("loader yields no examples")
    settings = {
        "method": fingerprint(method),
        "attribute_kwargs": fingerprint(kwargs),
        "data": {
            "examples": source.examples,
            "order": source.order_digest,
            "first group": fingerprint(first.columns),
        },
        "dtype": str(dtype),
        "group_size": group_size,
        "shard_size": shard_size,
        "seed": seed,
        "threads": threads,
        "versions": {name: _version(name) for name in ("captum", "captum-wg", "torch")},
    }
    folder = open_folder(out, settings)
    job = Job(method, kwargs, source, folder, dtype, place, seed, threads)
    examples = source.examples or folder.examples()
    count = None if examples is None else -(-examples // shard_size)
    chosen = _chosen(shards, count)

    todo = chosen if count is None else [n for n in chosen if not folder.has(n)]
    if todo:
        if group_size > 1:
            with reproducible(threads, place):
                job.check_rows(first)
        total = None if count is None else min(examples or 0, len(chosen) * shard_size)
        with tqdm(
            total=total,
            initial=(len(chosen) - len(todo)) * shard_size if total else 0,
            desc="attributions",
            unit="example",
            disable=show_progress is False,
            delay=PATIENCE if show_progress is None else 0,
        ) as bar:
            if parallel is None:
                seen = work(job, todo, bar.update)
                examples = seen if examples is None else examples
            else:
                for made in parallel((work, (job, [number]), {}) for number in todo):
                    bar.update(made)
    missing = [n for n in range(-(-(examples or 0) // shard_size)) if not folder.has(n)]
    if lost := [n for n in missing if n in todo]:
        raise RuntimeError(
            f"{len(lost)} shards that were made did not arrive in {folder.folder}; give out as a path on a file system "
            "that all workers share"
        )
    if missing:
        return None
    folder.finish(examples or 0, shard_size)
    return AttributionDataset(folder.folder)


def _check_kwargs(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"attribute_kwargs must be a dictionary of attribute's arguments, got {type(kwargs).__name__}")
    made = dict(kwargs or {})
    if "inputs" in made:
        raise ValueError("attribute_kwargs has 'inputs'; they come from loader")
    for name, value in made.items():
        if isinstance(value, torch.Generator):
            raise ValueError(
                f"attribute_kwargs[{name!r}] is a torch.Generator, whose draws depend on which examples came before; "
                "give an int seed"
            )
    if isinstance(made.get("target"), list) or (isinstance(made.get("target"), Tensor) and made["target"].numel() > 1):
        raise ValueError(
            "attribute_kwargs['target'] must be one target for all examples (an int, a tuple or None); targets of the "
            "examples come from loader"
        )
    return made


def _check_method(method: Any) -> None:
    if isinstance(getattr(method, "__self__", None), Attribution) or not (
        isinstance(method, Attribution) or (callable(method) and not isinstance(method, type))
    ):
        raise TypeError(
            "method must be an attribution object such as ExpectedGradients(model), not its class or its `attribute`, "
            f"or a callable (inputs, target) -> maps; got {method!r:.80}"
        )


def _chosen(shards: Any, count: int | None) -> Sequence[int]:
    """The numbers of shards to make, of `count` (None: not known)."""
    if shards is None:
        shards = slice(None)
    if isinstance(shards, slice):
        return range(*shards.indices(sys.maxsize if count is None else count))
    try:
        numbers = sorted({operator.index(number) for number in shards})
    except TypeError as error:
        raise TypeError(f"shards must be a slice or a list of whole numbers, got {shards!r}") from error
    limit = sys.maxsize if count is None else count
    if bad := [number for number in numbers if not 0 <= number < limit]:
        raise ValueError(f"shards must be numbers from 0 to {limit - 1}, as there are {limit} shards; got {bad}")
    return numbers


def _device(method: Any) -> torch.device | None:
    model = getattr(method, "forward_func", method)
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return None if first is None else first.device


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
