"""`additional_forward_args` for B examples: which of them go with the examples, and which are the same for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor

# The numbers of the arguments whose row i belongs to example i.
Reading = frozenset[int]

# So many arguments are read in all combinations.
_COMBINED = 4


@dataclass(frozen=True, eq=False)
class Shared:
    """An argument that is the same for all examples, however many rows it has."""

    value: Any


def shared(value: Any) -> Shared:
    """Marks an element of additional_forward_args that all examples share.

    A Tensor there whose first dimension is the number of examples may hold a row for each of them, or be the same for
    all (prototypes, a mask, a table of positions). A probe of the model tells which; this says it without one:

        attribute(x, additional_forward_args=(lengths, shared(prototypes)))
    """
    return value if isinstance(value, Shared) else Shared(value)


def args_tuple(additional_forward_args: object) -> tuple[Any, ...]:
    """Captum's forms of the arguments, None, one or a tuple, as a tuple."""
    if additional_forward_args is None:
        return ()
    return additional_forward_args if isinstance(additional_forward_args, tuple) else (additional_forward_args,)


class ForwardArgs:
    """Tensors with B rows may belong to the examples, all else is passed on.

    Attributes, the numbers of arguments:
        ambiguous: that may belong to them.
        per_example: that do (all until it is set).
        written: that the model writes into: it is given copies.
    """

    def __init__(self, additional_forward_args: object, n_examples: int):
        given = args_tuple(additional_forward_args)
        tensors = {i: a for i, a in enumerate(given) if isinstance(a, Tensor) and not a.is_nested and a.ndim > 0}
        self.ambiguous: Reading = frozenset(i for i, a in tensors.items() if len(a) == n_examples)
        self.per_example = self.ambiguous
        # Until a call of the model has shown which it leaves alone.
        self.written: Reading = frozenset(i for i, a in enumerate(given) if isinstance(a, Tensor | Shared))
        self._handed: list[Any] | None = []
        self._args = tuple(a.value if isinstance(a, Shared) else a for a in given)

    def of(self, examples: Tensor, reading: Reading | None = None) -> tuple[Any, ...]:
        """The arguments for rows that belong to `examples` (R,)."""
        chosen = self.per_example if reading is None else reading
        made = list(self._args)
        for i, a in enumerate(made):
            if i in chosen:
                made[i] = a.index_select(0, examples.to(a.device))  # as sparse Tensors can't be indexed
            elif i in self.written and isinstance(a, Tensor):
                made[i] = a.clone()
        if self._handed is not None:
            self._handed = made
        return tuple(made)

    def called(self) -> None:
        """After the first call of the model with the latest arguments: see which of them it wrote into."""
        if self._handed is not None:
            self.written = frozenset(i for i, a in enumerate(self._handed) if isinstance(a, Tensor) and _changed(a))
            self._handed = None

    def readings(self) -> Iterator[Reading]:
        """What may be meant: all per example first, all shared last; of many, all but one of a kind between them."""
        ambiguous = sorted(self.ambiguous)
        if len(ambiguous) > _COMBINED:
            yield self.ambiguous
            yield from (self.ambiguous - {i} for i in ambiguous)
            yield from (frozenset({i}) for i in ambiguous)
            yield frozenset()
            return
        for belongs in product((True, False), repeat=len(ambiguous)):
            yield frozenset(i for i, own in zip(ambiguous, belongs, strict=True) if own)


def _changed(fresh: Tensor) -> bool:
    """Whether a Tensor has been written into since it was made."""
    return not fresh.is_inference() and fresh._version > 0
