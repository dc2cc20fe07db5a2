"""The engine: gradients and outputs of the explained function at many points, in micro-batches of bounded size.

All attribution methods here are statistics of gradients at S points for each of B examples. `Problem.gradients` walks
over them in tiles of a few rows; a tile's points are made when it is reached and its gradients handed out once, so that
memory depends on neither B nor S. Shapes: B examples, S points, b and s the tile's share of them, r = b s rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby, zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import check_bool, check_inputs, check_positive_int, name_rows, not_finite, warn
from captum_wg.engine.forward_args import ForwardArgs, Reading
from captum_wg.engine.gradient import Differentiated, input_gradients
from captum_wg.engine.outputs import output_tensor
from captum_wg.engine.probe import probe
from captum_wg.engine.targets import Target, Targets
from captum_wg.engine.tensors import Inputs, at_least_float32
from captum_wg.engine.train_mode import warn_of_train_mode

# A progress bar that nobody asked for appears only where the work takes this many seconds.
PATIENCE = 5.0

_CPU_ELEMENTS = 98_304  # 32 rows of 3 x 32 x 32
_CPU_ROWS = (8, 1024)
_CUDA_BYTES_PER_ELEMENT = 4096


class Points(NamedTuple):
    """Points of some examples: for each element of the inputs where they are, and how far x lies from where each of
    their paths starts, (b, s, *feature); None for points that lie on no path."""

    at: tuple[Tensor, ...]
    differences: tuple[Tensor, ...] | None = None


# points(examples, points): some of the S points of some of the B examples.
PointSource = Callable[[slice, slice], Points]


class Tile(NamedTuple):
    """Gradients (b, s, *feature) at some of the S points of some of the B examples; the rest as in `Points`."""

    examples: slice
    points: slice
    at: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    differences: tuple[Tensor, ...] | None


class Problem:
    """One explanation problem: a function, the output of it that is explained, and B checked examples.

    Args:
        forward_func, gradient_func: the function, and what differentiates it (an Attribution's `gradient_func`). Where
            that is not `input_gradients`, as in Captum's neuron methods, what it differentiates is the explained
            output, whose value then comes from a call of it.
        inputs: a Tensor or tuple of Tensors (B, *feature); None where an attribution is over a set alone (B = 1).
        target, additional_forward_args: as in Captum.
        internal_batch_size: rows of a micro-batch, None for `automatic_rows`. All of a walk have exactly so many, the
            last filled up with repeats, where that is no more than automatic_rows; and all there are, where the model
            takes no other number.
        show_progress: whether the walks over rows draw a progress bar, called `name`; None: after a few seconds.
        whole_numbers: whether inputs may be integers, of which there are outputs, but no gradients.

    Attributes:
        together: whether rows influence each other, so that all B stay together (`captum_wg.engine.probe`).
        output_dtype: of the latest forward without gradients.
        neutral: what neutral="auto" removes features by; None: what suits inputs (`captum_wg.weighting.masking`).
        feature_mask: which features there are if no one says it; None: what suits inputs.
        baselines: those of the call; None where it has none.
        sized_by: Tensors whose rows are as large as the work for a row; None: inputs.
        of_what: what inputs are called where the output depends on none of them.
    """

    neutral: tuple[Tensor, ...] | None = None
    feature_mask: tuple[Tensor, ...] | None = None
    baselines: BaselineSet | None = None
    sized_by: tuple[Tensor, ...] | None = None
    of_what = "the inputs"

    def __init__(
        self,
        forward_func: Callable[..., Any],
        gradient_func: Callable[..., Any],
        inputs: Inputs | None,
        target: Target = None,
        additional_forward_args: object = None,
        internal_batch_size: int | None = None,
        show_progress: bool | None = False,
        name: str = "attribution",
        whole_numbers: bool = False,
    ):
        if not callable(forward_func):
            raise TypeError(f"forward_func must be a module or a callable, got {type(forward_func).__name__}")
        self.forward_func = forward_func
        self.is_tuple = isinstance(inputs, tuple)
        self.inputs = (
            () if inputs is None else tuple(x.detach() for x in check_inputs(inputs, whole_numbers=whole_numbers))
        )
        self.n_examples = len(self.inputs[0]) if self.inputs else 1
        self.targets = Targets(target, self.n_examples)
        self.args = ForwardArgs(additional_forward_args, self.n_examples)
        size = internal_batch_size
        self._rows = None if size is None else check_positive_int(size, "internal_batch_size")
        self._exact = False  # whether the model takes _rows rows and no other number
        self._swapped = gradient_func is not input_gradients
        self._gradient_func = gradient_func if self._swapped else partial(input_gradients, bounds=self.targets.bounds)
        self._show_progress = None if show_progress is None else check_bool(show_progress, "show_progress")
        self._name = name
        self._at_inputs: Tensor | None = None
        self._differentiates_itself = False
        self._depends: list[bool] = []  # for each element of the inputs, whether any row had a gradient
        self._random = False
        self.together = False
        self.output_dtype: torch.dtype | None = None
        warn_of_train_mode(forward_func)

    def probe(self, references: BaselineSet) -> None:
        """Find which arguments go with the examples, and whether rows influence each other, before any walk."""

        def forward(rows: tuple[Tensor, ...], numbers: Tensor, reading: Reading) -> Tensor:
            self.args.per_example = reading
            return self.raw_outputs(rows, numbers)

        try:
            answer = probe(forward, self.inputs, self.args, references, self._rows)
        except Exception:
            if self._swapped:  # what can't be asked for its output may still have gradients
                self.args.per_example = self.args.ambiguous
                return
            raise
        self.args.per_example, self.together, self._at_inputs = answer.per_example, answer.together, answer.at_inputs
        self._random = answer.random
        if answer.fixed is not None:
            self._rows, self._exact = answer.fixed, True

    def progress(self, total: int, what: str = "") -> Any:
        """A progress bar over `total` rows."""
        return tqdm(
            total=total,
            desc=f"{self._name} {what}".strip(),
            unit="row",
            disable=self._show_progress is False,
            delay=PATIENCE if self._show_progress is None else 0,
            leave=False,
        )

    def rows(self, like: tuple[Tensor, ...] | None = None) -> int:
        """The rows of a micro-batch."""
        return self.n_examples if self.together else self._rows or automatic_rows(like or self.sized_by or self.inputs)

    def tiles(self, n_points: int, like: tuple[Tensor, ...] | None = None) -> Iterator[tuple[slice, list[slice]]]:
        """Cuts B x n_points into micro-batches: some examples, and their points' parts."""
        if self.together:
            yield slice(0, self.n_examples), [slice(s, s + 1) for s in range(n_points)]
            return
        n_rows = self.rows(like)
        # One example after another where its points fill a micro-batch, several at once where they don't; the last
        # tiles are evened out rather than left nearly empty, unless a size was asked for.
        for examples in self.parts(self.n_examples, max(1, n_rows // n_points)):
            yield examples, list(self.parts(n_points, max(1, n_rows // (examples.stop - examples.start))))

    def parts(self, n: int, most: int) -> Iterator[slice]:
        """range(n) in the fewest parts of at most `most`: of exactly so many where a size was asked for, else even."""
        if self._rows is None:
            yield from (slice(*bounds) for bounds in even_parts(n, most))
        else:
            yield from (slice(start, min(start + most, n)) for start in range(0, n, most))

    def gradients(
        self, points: PointSource, n_points: int, like: tuple[Tensor, ...] | None = None, what: str = ""
    ) -> Iterator[Tile]:
        """The gradients at the points of all examples, tile by tile; all tiles of one example follow each other."""
        fill = self._fills(self.n_examples * n_points)
        with self.progress(self.n_examples * n_points, what) as bar:
            for examples, tiles in groupby(self._walk(points, n_points, like, bar), lambda tile: tile[0]):
                # Kept on the device until the example is done: reading it would wait for the device.
                bad: list[Tensor] = []
                for _, chosen, made, rows, numbers in tiles:
                    found = zip(self._at(rows, numbers, fill), made.at, strict=True)
                    gradients = tuple(g.reshape(p.shape) for g, p in found)
                    bad += [not_finite(v) for v in (*gradients, *made.at)]
                    yield Tile(examples, chosen, made.at, gradients, made.differences)
                self._refuse(torch.stack(bad).any(0), examples.start)

    def _walk(
        self, points: PointSource, n_points: int, like: tuple[Tensor, ...] | None, bar: Any
    ) -> Iterator[tuple[slice, slice, Points, tuple[Tensor, ...], Tensor]]:
        """The examples and points of each tile, where they are, the same as rows (r, *feature), and whose rows."""
        for examples, parts in self.tiles(n_points, like):
            for chosen in parts:
                made = points(examples, chosen)
                at = tuple(p.detach() for p in made.at)
                rows = tuple(p.reshape(-1, *p.shape[2:]) for p in at)
                numbers = torch.arange(examples.start, examples.stop, device=at[0].device)
                numbers = numbers.repeat_interleave(at[0].shape[1])
                yield examples, chosen, Points(at, made.differences), rows, numbers
                bar.update(len(numbers))

    def row_gradients(
        self, points: Callable[[slice], tuple[Tensor, ...]], examples: Tensor, bar: Any = None
    ) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
        """The gradients at any list of points, micro-batch by micro-batch: which rows, and (r, *feature) per element.

        Args:
            points: points(rows) -> (r, *feature) for each element of inputs.
            examples: which example each row belongs to, (R,), on the inputs' device.
            bar: a progress bar to move.
        """
        self.refuse_together("this n_steps or method takes each example's points by themselves; give n_steps a number")
        bad = torch.zeros(self.n_examples, dtype=torch.int, device=examples.device)
        fill = self._fills(len(examples))
        for rows in self.parts(len(examples), self.rows()):
            gradients = self._at(points(rows), examples[rows], fill)
            for g in gradients:
                bad.index_add_(0, examples[rows], not_finite(g).int())
            yield rows, gradients
            if bar is not None:
                bar.update(rows.stop - rows.start)
        self._refuse(bad > 0)

    def refuse_together(self, why: str) -> None:
        """Raise if rows of several examples influence each other; why: what can't be done then."""
        if self.together and self.n_examples > 1:
            raise ValueError(
                f"the rows of forward_func influence each other, and {why}; or make the set one example: inputs x[None]"
                ", and a function such as lambda z: torch.stack([model(s)[i] for s in z])"
            )

    def _at(self, rows: tuple[Tensor, ...], examples: Tensor, fill: bool = False) -> tuple[Tensor, ...]:
        """The gradients at one micro-batch of rows (R, *feature) of `examples` (R,)."""
        count = len(examples)
        rows, examples = self._filled(rows, examples, fill)
        with torch.inference_mode(False):
            gradients = self._gradient_func(
                forward_fn=self.forward_func,
                inputs=tuple(_leaf(r) for r in rows),
                target_ind=self.targets.of(examples),
                additional_forward_args=self.args.of(examples) or None,
            )
        had = [g is not None for g in gradients]
        self._depends = [before or now for before, now in zip_longest(self._depends, had, fillvalue=False)]
        found = zip(gradients, rows, strict=True)
        return tuple(torch.zeros_like(r[:count]) if g is None else g.detach()[:count] for g, r in found)

    def _fills(self, n_rows: int) -> bool:
        """Whether micro-batches of a walk over n_rows have the size that was asked for, to the row."""
        size = self._rows
        return size is not None and bool(self.inputs) and size <= n_rows and size <= automatic_rows(self.inputs)

    def _filled(self, rows: tuple[Tensor, ...], examples: Tensor, fill: bool) -> tuple[tuple[Tensor, ...], Tensor]:
        """A micro-batch of the size that was asked for: short ones are filled up with their last row."""
        missing = (self._rows or 0) - len(examples)
        if not (fill or self._exact) or self.together or missing <= 0:
            return rows, examples
        more = torch.arange(len(examples) + missing, device=examples.device).clamp(max=len(examples) - 1)
        return tuple(r[more] for r in rows), examples[more]

    def _differentiated(self, rows: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """What a gradient_func of another's differentiates, (R,), for one micro-batch."""
        with Differentiated() as seen:
            self._at(rows, examples)
        values = torch.cat([v.detach().reshape(-1) for v in seen.outputs]) if seen.outputs else torch.empty(0)
        if len(values) != len(self._filled(rows, examples, fill=False)[1]):
            raise ValueError(
                f"gradient_func differentiates {len(values)} numbers for {len(examples)} rows by torch.autograd.grad, "
                "so the explained output (for the convergence delta, n_steps='auto' or weights) can't be told; let it "
                "differentiate one number a row"
            )
        self.output_dtype = values.dtype
        return values[: len(examples)]

    def _refuse(self, bad: Tensor, first: int = 0) -> None:
        """Raise if the gradients of some examples (b,), counted from `first`, are not finite."""
        if bad.any():
            raise ValueError(
                f"the gradient is NaN or infinite for examples {name_rows(bad, first)}, or a point where it is taken; "
                "check the model there (sqrt(0), log(0), 0/0), or use a wider dtype if it is half precision"
            )

    def raw_outputs(self, rows: tuple[Tensor, ...], examples: Tensor, fill: bool = False) -> Tensor:
        """The model's whole output, without gradients, for one micro-batch of rows (R, *feature) of `examples` (R,).

        (R,), the explained output itself, where gradient_func is another's.
        """
        count = len(examples)
        if self._swapped:
            return self._differentiated(rows, examples)
        rows, examples = self._filled(rows, examples, fill)
        output = self._forward(rows, self.args.of(examples))
        return output[:count] if output.ndim else output

    def _forward(self, rows: tuple[Tensor, ...], args: tuple[Any, ...]) -> Tensor:
        """The model on a copy of the rows, which it may write into."""
        if not self._differentiates_itself:
            try:
                with torch.no_grad():
                    output = output_tensor(self.forward_func(*(r.clone() for r in rows), *args))
                self.args.called()
                self.output_dtype = output.dtype
                return output
            except RuntimeError as error:
                if "does not require grad" not in str(error):
                    raise
                # It takes derivatives in its forward.
                self._differentiates_itself = True
        with torch.inference_mode(False), torch.enable_grad():
            output = output_tensor(self.forward_func(*(_leaf(r).clone() for r in rows), *args)).detach()
        self.output_dtype = output.dtype
        return output

    def explained(self, output: Tensor, examples: Tensor) -> Tensor:
        """The explained one of `raw_outputs` for rows of `examples` (R,): (R,), in at least float32."""
        chosen = output if self._swapped else self.targets.select(output, examples)
        return at_least_float32(chosen).to(examples.device)

    def outputs(
        self,
        points: PointSource,
        n_points: int,
        what: str = "outputs",
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The explained output at S points of each example, (B, S), in at least float32.

        score: another number, score(the model's output for rows of examples (R,), these examples) -> (R,).
        """
        score = score or self.explained
        fill = self._fills(self.n_examples * n_points)
        results = []
        with self.progress(self.n_examples * n_points, what) as bar:
            for examples, tiles in groupby(self._walk(points, n_points, None, bar), lambda tile: tile[0]):
                found = [score(self.raw_outputs(rows, n, fill), n) for *_, rows, n in tiles]
                results.append(torch.cat([f.view(examples.stop - examples.start, -1) for f in found], dim=1))
        return torch.cat(results)

    def outputs_at_inputs(self) -> Tensor:
        """The explained output of each example, (B,), in at least float32."""
        return self.explained(self.raw_outputs_at_inputs(), self._first(self.n_examples)[1])

    def raw_outputs_at_inputs(self) -> Tensor:
        """The model's whole output for each example, taken once."""
        if self._at_inputs is None:
            rows, examples = self._first(self.n_examples)
            parts = [
                self.raw_outputs(tuple(x[part] for x in rows), examples[part])
                for part in self.parts(self.n_examples, self.rows())
            ]
            self._at_inputs = torch.cat([o.reshape(1) if o.ndim == 0 else o for o in parts])
        return self._at_inputs

    def _first(self, count: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """The first so many examples, and their numbers."""
        return tuple(x[:count] for x in self.inputs), torch.arange(count, device=self.inputs[0].device)

    def outputs_at_shared(self, rows: tuple[Tensor, ...]) -> Tensor:
        """The explained output of each example at the same K rows (K, *feature), (B, K), in at least float32.

        K forwards where nothing but the target belongs to an example, else B K.
        """
        count = len(rows[0])
        own_targets = self.targets.any_per_example
        if self.args.per_example or self.together or (self._swapped and own_targets):
            return self.outputs(
                lambda e, chosen: Points(tuple(r[chosen].expand(e.stop - e.start, *r[chosen].shape) for r in rows)),
                count,
                "at baselines",
            )
        parts = []
        for part in self.parts(count, self.rows()):
            # No argument belongs to an example, so whose rows these are matters for the target alone.
            whose = torch.zeros(part.stop - part.start, dtype=torch.long, device=rows[0].device)
            output = self.raw_outputs(tuple(r[part] for r in rows), whose)
            examples = range(self.n_examples if own_targets else 1)
            parts.append(torch.stack([self.explained(output, torch.full_like(whose, e)) for e in examples]))
        return torch.cat(parts, dim=1).expand(self.n_examples, -1)

    def without_gradient(self) -> list[bool]:
        """After the walk, for each element of the inputs whether no row had a gradient."""
        return [not depends for depends in self._depends]

    def check_dependence(self, maps: tuple[Tensor, ...] = ()) -> None:
        """After the walk, a ValueError if no row had a gradient, and a warning if an element of the inputs had none, or
        zeros, although the output changes with it. maps: what became of the gradients."""
        cut = (
            "the graph is cut (detach, no_grad, .long() or .int(), a comparison, rounding or quantisation, argmax, "
            "numpy). Attribute at what comes after it: for token ids or categories the embedding "
            "(LayerExpectedGradients and the like)"
        )
        if not any(self._depends):
            raise ValueError(
                "the output of forward_func has no gradient at any point of any example: either it depends on none of "
                f"{self.of_what}, or {cut}"
            )
        if self._random or not self.inputs:
            return
        few = self._first(self.n_examples if self.together else min(self.n_examples, 8))
        flat = [not m.any() for m in maps] or [False] * len(self._depends)
        for i, (depends, zeros) in enumerate(zip(self._depends, flat, strict=True)):
            if (not depends or (zeros and not self._at(*few)[i].any())) and self._changes_with(i, *few):
                what = f"element {i} of inputs" if self.is_tuple else "every element of inputs"
                warn(
                    f"{what} gets zeros at all points of all examples, although the output changes with it: it is flat "
                    f"there, or {cut}"
                )

    def _changes_with(self, element: int, rows: tuple[Tensor, ...], examples: Tensor) -> bool:
        """Whether the output for a few examples changes with an element of their inputs."""
        x = rows[element]
        # None of them beyond the values that are there: ids may index a table.
        others = (torch.zeros_like(x), x.roll(1, 0), x.flip(-1) if x.ndim > 1 else x)
        try:
            here = self.raw_outputs(rows, examples)
            for other in others:
                there = self.raw_outputs((*rows[:element], other, *rows[element + 1 :]), examples)
                if here.shape != there.shape or not torch.equal(here, there):
                    return True
        except Exception:  # of a value that the model does not take, so that it matters
            return True
        return False


def automatic_rows(inputs: tuple[Tensor, ...], device: torch.device | None = None) -> int:
    """The size of a micro-batch when the caller names none: by the elements of one example, the same in every run.

    On a CPU about 98,000 elements, between 8 and 1024 rows (32 of 3 x 32 x 32, 8 of 3 x 224 x 224): beyond that the
    activations leave the caches. On a GPU one element for each 4 KiB of the device's total memory (what happens to be
    free differs from run to run). device: where the rows go, if not where inputs are.
    """
    elements = max(1, sum(x[0].numel() for x in inputs))
    device = device or inputs[0].device
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        return max(1, min(4096, memory // _CUDA_BYTES_PER_ELEMENT // elements))
    low, high = _CPU_ROWS
    return max(low, min(high, _CPU_ELEMENTS // elements))


def even_parts(n: int, most: int) -> Iterator[tuple[int, int]]:
    """Bounds of the fewest parts of range(n) of at most `most` elements each, whose sizes differ by one at most."""
    parts = -(-n // most)
    for i in range(parts):
        yield i * n // parts, (i + 1) * n // parts


def _leaf(points: Tensor) -> Tensor:
    """A copy, which the model may write into, and autograd take for its own."""
    with torch.inference_mode(False):
        return points.detach().clone().requires_grad_()
