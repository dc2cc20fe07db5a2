"""`additional_forward_args` for B examples: which of them go with the examples, and which are the same for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor

# The numbers of the arguments whose row i belongs to example i.
Reading = frozenset[int]

# So many arguments are read in all combinations, more of them all alike.
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


class ForwardArgs:
    """Tensors with B rows may belong to the examples (all do until `per_example` is set), all else is passed on.

    Attributes:
        per_example: the numbers of those that do.
        ambiguous: the numbers of those that may.
    """

    def __init__(self, additional_forward_args: object, n_examples: int):
        given: tuple[Any, ...] = (
            ()
            if additional_forward_args is None
            else additional_forward_args
            if isinstance(additional_forward_args, tuple)
            else (additional_forward_args,)
        )
        self.ambiguous: Reading = frozenset(
            i for i, a in enumerate(given) if isinstance(a, Tensor) and a.ndim > 0 and a.shape[0] == n_examples
        )
        self.per_example = self.ambiguous
        self._args = tuple(a.value if isinstance(a, Shared) else a for a in given)

    def of(self, examples: Tensor, reading: Reading | None = None) -> tuple[Any, ...]:
        """The arguments for rows that belong to `examples` (R,)."""
        chosen = self.per_example if reading is None else reading
        # index_select, as sparse Tensors can't be indexed.
        return tuple(a.index_select(0, examples.to(a.device)) if i in chosen else a for i, a in enumerate(self._args))

    def readings(self) -> Iterator[Reading]:
        """What may be meant: all per example first, all shared last."""
        ambiguous = sorted(self.ambiguous)
        if len(ambiguous) > _COMBINED:
            yield from (self.ambiguous, frozenset())
            return
        for belongs in product((True, False), repeat=len(ambiguous)):
            yield frozenset(i for i, own in zip(ambiguous, belongs, strict=True) if own)
