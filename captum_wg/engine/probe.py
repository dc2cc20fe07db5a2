"""Asking a model, before the walk, how its rows and arguments belong together.

Micro-batches take rows out of their batch and put points of one example beside those of another. That is right only if
a row's output depends on that row alone. The output for a row alone is compared with the output for the same row among
others, arguments with as many rows as there are examples read either way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_wg.engine.checks import warn
from captum_wg.engine.forward_args import ForwardArgs, Reading

# forward(rows, args) -> the model's whole output, without gradients
Forward = Callable[[tuple[Tensor, ...], tuple[Any, ...]], Tensor]


class Answer(NamedTuple):
    """What the probe found.

    Attributes:
        per_example: the arguments that go with the examples.
        together: whether the B rows must stay together, in their order.
        at_inputs: the model's output for all B inputs, if that was among the questions.
    """

    per_example: Reading
    together: bool = False
    at_inputs: Tensor | None = None


def probe(forward: Forward, inputs: tuple[Tensor, ...], args: ForwardArgs, alone: int, among: int) -> Answer:
    """The reading of the arguments under which a row's output does not depend on other rows.

    Args:
        forward: the model.
        inputs: the B examples.
        args: their arguments.
        alone: how many times a row is repeated where it is alone; 1, or what a fixed batch asks for.
        among: how many rows are asked for together, at least 2.

    Raises:
        Exception: the model's own, where it can neither explain one row nor all of them.

    Warns:
        UserWarning: the model draws at random, so that it can't be probed; its rows influence each other.
    """
    n_examples, device = len(inputs[0]), inputs[0].device
    others = torch.arange(among, device=device) % n_examples
    # In a sequence one end may depend on all others, the other end on none.
    lonely = sorted({0, min(among, n_examples) // 2, min(among, n_examples) - 1})
    crowd = tuple(x[others] for x in inputs)
    if n_examples == 1:
        # Another row that is not the same, in the range of the first.
        for x in crowd:
            x[1:] *= 0.5
    errors: list[Exception] = []

    def ask(rows: tuple[Tensor, ...], numbers: Tensor, reading: Reading) -> Tensor | None:
        try:
            output = forward(rows, args.of(numbers, reading))
        except Exception as error:  # whatever the model says to rows or arguments that do not fit
            errors.append(error)
            return None
        output = output.reshape(1) if output.ndim == 0 and len(rows[0]) == 1 else output
        return output if output.ndim > 0 and len(output) == len(rows[0]) else None

    def ask_alone(row: int, reading: Reading) -> Tensor | None:
        numbers = torch.full((alone,), row, dtype=torch.long, device=device)
        return ask(tuple(x[numbers] for x in inputs), numbers, reading)

    answered: tuple[Tensor, Reading] | None = None
    for reading in args.readings():
        by_itself = ask_alone(0, reading)
        if answered is None and by_itself is not None:
            answered = by_itself, reading
        beside = None if by_itself is None else ask(crowd, others, reading)
        if by_itself is None or beside is None or not _same(by_itself[0], beside[0]):
            continue
        rows = ((row, ask_alone(row, reading)) for row in lonely[1:])
        if all(output is not None and _same(output[0], beside[row]) for row, output in rows):
            whole = n_examples == 1 and alone == 1
            kept = by_itself if whole else beside if among == n_examples > 1 else None
            return Answer(reading, False, kept)
    if answered is not None:
        output, reading = answered
        again = ask_alone(0, reading)
        if again is not None and not _same(output[0], again[0]):
            warn(
                "forward_func draws at random, so it can't be probed for rows that influence each other; each row's "
                "output is taken to depend on that row alone"
            )
            return Answer(args.ambiguous)
    everyone = ask(inputs, others, frozenset())
    if everyone is None:
        if answered is None and errors:
            raise errors[0]
        return Answer(args.ambiguous)  # the walk says what is wrong with other rows or outputs
    if n_examples > 1:
        warn(
            "the rows of forward_func influence each other (a graph whose nodes are the rows, a sequence in dimension "
            "0, batch statistics, ...): all rows are taken together at each point, and an attribution is that of the "
            "sum of their outputs. To explain one of them, make the set one example: inputs x[None], and a function "
            "such as lambda z: torch.stack([model(s)[i] for s in z]); internal_batch_size is not used"
        )
    return Answer(frozenset(), True, everyone)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two rows of outputs agree, as far as other micro-batches let them in their precision."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return bool((a == b).all())
    eps = torch.finfo(torch.bfloat16 if _autocast(a.device.type) else a.dtype).eps
    scale = torch.maximum(a.abs().max(), b.abs().max()) if a.numel() else a.new_zeros(())
    close = (a - b).abs() <= 3 * eps**0.5 * scale
    return bool((close | ((a == b) | (a.isnan() & b.isnan()))).all())


def _autocast(device: str) -> bool:
    try:
        return bool(torch.is_autocast_enabled(device))
    except TypeError:  # before torch 2.4
        return bool(torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled())
