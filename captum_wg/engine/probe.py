"""Asking a model, before the walk, how its rows and arguments belong together.

Micro-batches take rows out of their batch and put points of one example beside those of another. That is right only if
a row's output depends on that row alone. So a few rows are asked for together, in the reverse order, and with every
other row exchanged for something else: as often in batches of the same size, in which a kernel rounds alike, so that
what differs is influence. Arguments with as many rows as there are examples are read either way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import warn
from captum_wg.engine.forward_args import ForwardArgs, Reading

# forward(rows, the examples they belong to, reading) -> the model's whole output, without gradients
Forward = Callable[[tuple[Tensor, ...], Tensor, Reading], Tensor]

_ROWS = 3
RANDOM = (
    "forward_func draws at random, so it can't be probed for rows that influence each other, nor for which "
    "additional_forward_args go with the examples (captum_wg.shared marks those that don't); each row's output is "
    "taken to depend on that row alone"
)


class Answer(NamedTuple):
    """What the probe found.

    Attributes:
        per_example: the arguments that go with the examples.
        together: whether the B rows must stay together, in their order.
        fixed: the only number of rows that the model takes; None: any.
        random: whether the model draws at random.
        at_inputs: the model's output for all B inputs, if that was among the questions.
    """

    per_example: Reading
    together: bool = False
    fixed: int | None = None
    random: bool = False
    at_inputs: Tensor | None = None


def probe(
    forward: Forward,
    inputs: tuple[Tensor, ...],
    args: ForwardArgs,
    references: BaselineSet,
    size: int | None,
) -> Answer:
    """The reading of the arguments under which a row's output does not depend on other rows.

    Args:
        forward: the model.
        inputs: the B examples.
        args: their arguments.
        references: their baselines.
        size: the rows of a micro-batch that the caller asked for.

    Raises:
        Exception: the model's own, where it can explain neither some rows nor all of them.

    Warns:
        UserWarning: the model draws at random, so that it can't be probed; its rows influence each other.
    """
    n_examples, device = len(inputs[0]), inputs[0].device
    state = _random_state(device)
    # On a GPU a graph's edges to rows that are not there would end the process: no fewer rows than there are.
    few = n_examples if device.type == "cuda" and size is None else _ROWS
    model = _Model(forward, inputs, references)
    for count in dict.fromkeys((max(2, min(n_examples, few, size or few)), size or n_examples, n_examples)):
        answers: list[Answer] = []
        for reading in args.readings():
            answer = model.asked(count, reading)
            answers += [] if answer is None else [answer]
            if answer is not None and not answer.together:
                break  # the first that agrees is meant
        if _random_state(device) != state:
            warn(RANDOM)
            fitting = [reading for reading in args.readings() if model.fits(count, reading)]
            return Answer(fitting[0] if fitting else args.ambiguous, random=True)
        if answers and not answers[-1].together:
            return answers[-1]
        if answers:
            if model.varies():
                warn(RANDOM)
                return Answer(answers[0].per_example, random=True)
            break
    everyone = model.ask(inputs, torch.arange(n_examples, device=device), frozenset())
    if everyone is None:
        if model.errors and not model.answered:
            raise model.errors[0]
        return Answer(args.ambiguous)  # the walk says what is wrong with the output
    if n_examples > 1:
        warn(
            "the rows of forward_func influence each other (a graph whose nodes are the rows, a sequence in dimension "
            "0, batch statistics, an argument that holds values of the examples in a list, ...): all rows are taken "
            "together at each point, an attribution is that of the sum of their outputs, deltas hold for their sum, "
            "and internal_batch_size is not used. To explain one row, make the set one example: inputs x[None], and a "
            "function such as lambda z: torch.stack([model(s)[i] for s in z])"
        )
    return Answer(frozenset(), True, at_inputs=everyone)


class _Model:
    """The model, and what it said."""

    def __init__(self, forward: Forward, inputs: tuple[Tensor, ...], references: BaselineSet):
        self._forward = forward
        self._inputs = inputs
        self._references = references
        self.errors: list[Exception] = []
        # The first question that it answered.
        self.answered: tuple[tuple[Tensor, ...], Tensor, Reading, Tensor] | None = None

    def ask(self, rows: tuple[Tensor, ...], numbers: Tensor, reading: Reading) -> Tensor | None:
        """Its output; None where it takes no such rows or arguments, or has not one row for each."""
        try:
            output = self._forward(rows, numbers, reading)
        except Exception as error:  # whatever the model says to what does not fit
            if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "enough memory" in str(error):
                raise
            self.errors.append(error)
            return None
        output = output.reshape(1) if output.ndim == 0 and len(numbers) == 1 else output
        self.answered = self.answered or (rows, numbers, reading, output)
        return output if output.ndim > 0 and len(output) == len(numbers) else None

    def varies(self) -> bool:
        """Whether the same question has another answer by now, as of a model that draws from generators of its own."""
        if self.answered is None:
            return False
        rows, numbers, reading, output = self.answered
        again = self.ask(rows, numbers, reading)
        return again is not None and not _same(output, again)

    def asked(self, count: int, reading: Reading) -> Answer | None:
        """What so many rows say of a reading: None where they can't be asked for, together where it is not meant."""
        one = len(self._inputs[0]) == 1
        numbers = self._numbers(count)
        own = tuple(x[numbers] for x in self._inputs)
        rounds = self._company(own, numbers)
        if one:
            own = _exchanged(own, self._starts(numbers, largest=False), 1)
        here = self.ask(own, numbers, reading)
        if here is None:
            return None
        whole = self.ask(self._inputs, numbers[:1], reading) if one else here if count == len(self._inputs[0]) else None
        no = Answer(reading, together=True)
        if one and whole is not None and not _close(whole, here[:1], here):
            return no
        if not one and count > 1:
            back = self.ask(tuple(x.flip(0) for x in own), numbers.flip(0), reading)
            if back is not None and not _same(here, back.flip(0)):
                return no
        seen = here
        for others in rounds if count > 1 else ():
            # Company brings its own arguments.
            away = None if one else self.ask(others, numbers.roll(1), reading)
            for odd in (0, 1):
                (mixed,) = _exchanged((numbers,), (numbers.roll(1),), odd)
                there = self.ask(_exchanged(own, others, odd), mixed, reading)
                if there is None:
                    continue  # such values are not for this model
                if not _same(here[1 - odd :: 2], there[1 - odd :: 2]):
                    return no
                if away is not None and not _same(away[odd::2], there[odd::2]):
                    return no
                seen = torch.cat([seen, there])
        if one:
            return Answer(reading, fixed=count if count == 1 or whole is None else None, at_inputs=whole)
        double = self._double(numbers, reading)
        if double is not None and not all(_close(here, part, seen) for part in (double[::2], double[1::2])):
            return no
        return Answer(reading, fixed=count if double is None else None, at_inputs=whole)

    def _starts(self, numbers: Tensor, largest: bool) -> tuple[Tensor, ...]:
        """That baseline of each of these examples whose largest element is the largest, or the smallest, of all."""
        references = self._references
        values = references.values if references.shared else tuple(v[numbers] for v in references.values)
        axis = 1 if references.shared else 2
        sizes = torch.stack([v.abs().reshape(*v.shape[:axis], -1).amax(axis) for v in values if v.numel()]).amax(0)
        which = (sizes if largest else -sizes).argmax(-1).expand(len(numbers))
        return references.of_rows(numbers, which)

    def _company(self, own: tuple[Tensor, ...], numbers: Tensor) -> list[tuple[Tensor, ...]]:
        """Other rows, twice: baselines and rows of other signs and order, the middle of paths and zeros."""
        far, near = self._starts(numbers, largest=True), self._starts(numbers, largest=False)
        turned = tuple(_turned(x) for x in own)
        middle = tuple(((x + start) / 2).to(x.dtype) for x, start in zip(own, near, strict=True))
        zeros = tuple(torch.zeros_like(x) for x in own)
        return [_exchanged(far, turned, 0), _exchanged(middle, zeros, 0)]

    def fits(self, count: int, reading: Reading) -> bool:
        """Whether the model takes arguments so, for other numbers of rows, too."""
        numbers = self._numbers(count)
        rows = tuple(x[numbers] for x in self._inputs)
        return self.ask(rows, numbers, reading) is not None and self._double(numbers, reading) is not None

    def _numbers(self, count: int) -> Tensor:
        """Examples spread over all of them, (count,)."""
        last = len(self._inputs[0]) - 1
        return torch.linspace(0, last, count, device=self._inputs[0].device).round().long()

    def _double(self, numbers: Tensor, reading: Reading) -> Tensor | None:
        twice = numbers.repeat_interleave(2)  # which keeps an order that the model may ask for
        return self.ask(tuple(x[twice] for x in self._inputs), twice, reading)


def _turned(x: Tensor) -> Tensor:
    """Rows of the same kind with other signs and another order; ids, which may index a table, in other rows only."""
    if not x.is_floating_point():
        return x.roll(1, 0)
    scale = x.abs().amax() if x.numel() else x.new_zeros(())
    turned = (x.roll(1, 0).flip(-1) if x.ndim > 1 else x.roll(1, 0)) * -1.3
    return (turned + 0.7 * torch.where(scale > 0, scale, torch.ones_like(scale))).to(x.dtype)


def _exchanged(own: tuple[Tensor, ...], others: tuple[Tensor, ...], odd: int) -> tuple[Tensor, ...]:
    """own with every second row, the odd or the even ones, from others."""
    mixed = tuple(x.clone() for x in own)
    for x, other in zip(mixed, others, strict=True):
        x[odd::2] = other[odd::2]
    return mixed


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether outputs of batches of the same size agree: to the last bits, as parts of them may differ in size."""
    return _within(a, b, a, min(512 * _eps(a), 0.01))


def _close(a: Tensor, b: Tensor, seen: Tensor) -> bool:
    """Whether outputs of batches of other sizes agree, beside what the model's outputs are like."""
    eps = torch.finfo(torch.bfloat16).eps if _autocast(a.device.type) else _eps(a)
    return _within(a, b, seen, 3 * eps**0.5)


def _within(a: Tensor, b: Tensor, seen: Tensor, tolerance: float) -> bool:
    """|a - b| <= tolerance times the largest finite output seen, column by column; NaN is NaN."""
    if a.shape != b.shape or a.shape[1:] != seen.shape[1:]:
        return False
    equal = (a == b) | (a.isnan() & b.isnan())
    if not a.is_floating_point():
        return bool(equal.all())
    scale = torch.where(seen.isfinite(), seen, 0).abs().amax(0)
    return bool((equal | ((a - b).abs() <= tolerance * scale)).all())


def _eps(a: Tensor) -> float:
    return torch.finfo(a.dtype).eps if a.is_floating_point() else 0.0


def _autocast(device: str) -> bool:
    try:
        return bool(torch.is_autocast_enabled(device))
    except TypeError:  # before torch 2.4
        return bool(torch.is_autocast_cpu_enabled() if device == "cpu" else torch.is_autocast_enabled())


def _random_state(device: torch.device) -> list[int]:
    """Of the generators that a model draws from."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    found: list[int] = torch.cat(states).tolist()
    return found
