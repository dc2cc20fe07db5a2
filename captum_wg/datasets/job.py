"""The work on a shard: examples in, the columns to store out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_wg.attribution_base import AttributionResult
from captum_wg.datasets.columns import Columns, flat, joined, nested, rows
from captum_wg.datasets.reproducible import reproducible, seed_group
from captum_wg.datasets.shards import EXTRAS, ShardFolder
from captum_wg.datasets.source import Group, Rows, Stream
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.problem import Problem
from captum_wg.engine.tensors import as_tuple


@dataclass(frozen=True)
class Job:
    """What decides the maps, and where they go."""

    method: Any
    kwargs: dict[str, Any]
    source: Rows | Stream
    folder: ShardFolder
    dtype: torch.dtype
    device: torch.device | None
    seed: int
    threads: int

    def arguments(self, group: Group) -> dict[str, Any]:
        """Of one call: inputs, target if there is one, and the others."""
        columns = {name: column.to(self.device or column.device) for name, column in group.columns.items()}
        named = nested(columns)
        if twice := sorted({*named} & ({*self.kwargs} - {"target"})):
            raise ValueError(f"attribute_kwargs and the batches of loader both have {twice}; take them out of one")
        target = self.kwargs["target"] if "target" in self.kwargs else _target(named.get("target"))
        return {**named, **self.kwargs, "target": target}

    def attributed(self, group: Group) -> Columns:
        """The columns to store for a group.

        Raises:
            ValueError: the method's own, with the examples' numbers in the data set; maps that can't be stored.
        """
        try:
            return self._attributed(group)
        except ValueError as error:
            first = group.number * self.source.group_size
            last = first + rows(group.columns, "a group of examples") - 1
            raise ValueError(
                f"examples {first} to {last} of loader (counted from 0 in what follows): {error}"
            ) from error

    def _attributed(self, group: Group) -> Columns:
        seed_group(self.seed, group.number, self.device)
        arguments = self.arguments(group)
        if isinstance(self.method, Attribution):
            if arguments["target"] is None:
                del arguments["target"]
            if "show_progress" in signature(self.method.attribute).parameters:
                arguments.setdefault("show_progress", False)
            result = self.method.attribute(**arguments)
        else:
            result = self.method(arguments.pop("inputs"), arguments.pop("target"), **arguments)
        n_examples = rows(group.columns, "a group of examples")
        made = {name: column.detach() for name, column in self._parts(result, n_examples).items()}
        if (n_made := rows(made, "what method returns")) != n_examples:
            raise ValueError(f"method returned {n_made} rows for {n_examples} examples; it must return one for each")
        return {name: self._stored(name, column).cpu() for name, column in made.items()}

    def _parts(self, result: Any, n_examples: int) -> Columns:
        if isinstance(result, AttributionResult):
            extras = {name: getattr(result, name) for name in EXTRAS}
            return {**flat(result.attributions, "attributions"), **{k: v for k, v in extras.items() if v is not None}}
        if isinstance(self.method, Attribution) and self.kwargs.get("return_convergence_delta"):
            maps, delta = result
            # One for each example, or as in Captum's GradientShap one for each of its samples.
            delta = delta if len(delta) == n_examples else delta.reshape(n_examples, -1)
            return {**flat(maps, "attributions"), "delta": delta}
        return flat(result, "attributions")

    def _stored(self, name: str, column: Tensor) -> Tensor:
        if not column.is_floating_point() or name in EXTRAS:
            return column
        stored = column.to(self.dtype)
        if stored.dtype != column.dtype and (column.isfinite() & ~stored.isfinite()).any():
            raise ValueError(
                f"{name} reaches {column.abs().nan_to_num(posinf=0).max():.3g}, which {self.dtype} can't hold; give "
                "dtype=torch.float32"
            )
        return stored

    def check_rows(self, group: Group) -> None:
        """That a row of the model's output depends on that row of the inputs alone, as far as the model can be asked.

        Raises:
            ValueError: rows influence each other.
        """
        model = getattr(self.method, "forward_func", None)
        arguments = self.arguments(group)
        inputs = arguments["inputs"]
        if not callable(model) or not all(x.is_floating_point() for x in as_tuple(inputs)):
            return
        args = arguments.get("additional_forward_args")
        problem = Problem(model, input_gradients, inputs, arguments["target"], args)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the method's own calls say the same
            problem.probe(format_baselines(None, problem.inputs, problem.is_tuple, None))
        if problem.together:
            raise ValueError(
                "the rows of method's forward_func influence each other, so that an example's map would depend on its "
                "company; put the model in eval mode, or give group_size=1, which takes every example by itself (and "
                "for methods of Captum internal_batch_size=1)"
            )


def work(job: Job, shards: Sequence[int], report: Callable[[int], Any] = lambda examples: None) -> int:
    """Make the shards that are not there yet. report: is told of the examples done.

    Returns:
        how many examples were read.
    """
    read = 0
    with reproducible(job.threads, job.device):
        for number, groups in groupby(job.source.groups(shards), key=lambda group: group.shard):
            wanted = number in shards and not job.folder.has(number)
            made: list[Columns] = []
            for group in groups:
                count = rows(group.columns, "a group of examples")
                if wanted:
                    made.append(job.attributed(group))
                read += count
                report(count)
            if wanted:
                job.folder.write(number, joined(made, "the maps of all examples"))
    return read


def _target(target: Tensor | None) -> Any:
    """In one of Captum's forms: (B,), or a list of tuples."""
    return [tuple(row) for row in target.tolist()] if target is not None and target.ndim == 2 else target
