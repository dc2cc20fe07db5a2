"""The engine: gradients of the explained output at many points, in micro-batches of bounded size.

All attribution methods here are statistics of gradients at S points for each of B examples. `Problem.gradients` walks
over the B x S points in tiles of a few rows; the points of a tile are made when it is reached and its gradients are
handed out once, so memory depends on neither B nor S. Shapes: B examples, S points, b and s the tile's share of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm

from captum_wg.engine.checks import check_inputs, check_positive_int, name_rows, not_finite, warn
from captum_wg.engine.targets import ForwardArgs, Target, Targets, select
from captum_wg.engine.tensors import Inputs, as_tuple

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


def input_gradients(
    forward_fn: Callable[..., Any],
    inputs: Inputs,
    target_ind: Target = None,
    additional_forward_args: object = None,
    bounds: tuple[int, int] | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of the output at target_ind with respect to inputs: Captum's `compute_gradients` with its calling form.

    Unlike it, an element of inputs on which the output does not depend gets zeros, and what cannot be differentiated
    is said in an error's words. `bounds` are the smallest and largest of per-example targets, if already known.
    """
    points = as_tuple(inputs)
    args: tuple[Any, ...] = (
        ()
        if additional_forward_args is None
        else additional_forward_args
        if isinstance(additional_forward_args, tuple)
        else (additional_forward_args,)
    )
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor made under inference_mode can't take part in autograd.
        args = tuple(a.clone() if isinstance(a, Tensor) and a.is_inference() else a for a in args)
        rows = len(points[0])
        if bounds is None:
            target_ind = Targets(target_ind, rows).of(torch.arange(rows, device=points[0].device))
        output = select(forward_fn(*points, *args), target_ind, rows, bounds)
        if not output.requires_grad:
            raise ValueError(
                "forward_func returns an output without a gradient: it depends on none of the inputs, or cuts the "
                "graph (detach, no_grad, integer or argmax outputs, numpy)"
            )
        try:
            gradients = torch.autograd.grad(output, points, grad_outputs=torch.ones_like(output), allow_unused=True)
        except RuntimeError as error:
            if "cudnn RNN" in str(error):
                raise RuntimeError(
                    "cuDNN's RNNs have no backward pass in eval mode: put the RNN modules alone into train mode "
                    "(dropout off), or run within torch.backends.cudnn.flags(enabled=False)"
                ) from error
            raise
    if all(g is None for g in gradients):
        raise ValueError("the output of forward_func depends on none of the inputs; nothing can be attributed")
    return tuple(torch.zeros_like(p) if g is None else g for p, g in zip(points, gradients, strict=True))


def automatic_rows(inputs: tuple[Tensor, ...], device: torch.device | None = None) -> int:
    """The size of a micro-batch when the caller names none: by the elements of one example, the same in every run.

    On a CPU about 98,000 elements, between 8 and 1024 rows (32 rows of 3 x 32 x 32, 8 of 3 x 224 x 224): beyond that
    the activations leave the caches and a row gets dearer. On a GPU one element for each 4 KiB of the device's total
    memory (not of what happens to be free, which differs from run to run). device: where the rows go, if not where
    inputs are.
    """
    elements = max(1, sum(x[0].numel() for x in inputs))
    device = device or inputs[0].device
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
        return max(1, min(4096, memory // _CUDA_BYTES_PER_ELEMENT // elements))
    low, high = _CPU_ROWS
    return max(low, min(high, _CPU_ELEMENTS // elements))


class Tile(NamedTuple):
    """Gradients at some points of some examples.

    examples, points: which of the B examples and S points; at, gradients, differences: (b, s, *feature) for each
    element of inputs, the last as in `Points`.
    """

    examples: slice
    points: slice
    at: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]
    differences: tuple[Tensor, ...] | None


class Problem:
    """One explanation problem: a function, the output of it that is explained, and B checked examples.

    Args:
        forward_func, gradient_func: the function, and what differentiates it (an Attribution's `gradient_func`). Where
            that is not `input_gradients` but, as in Captum's neuron methods, differentiates something else, what it
            differentiates is the explained output: its value then comes from a call of it.
        inputs: a Tensor or tuple of Tensors (B, *feature); None where an attribution is over a set alone (B = 1).
        target, additional_forward_args: as in Captum.
        internal_batch_size: rows of a micro-batch, None for `automatic_rows`.
        show_progress: whether the walks over rows draw a progress bar, called `name`; None: after a few seconds.
    """

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
    ):
        if not callable(forward_func):
            raise TypeError(f"forward_func must be a module or a callable, got {type(forward_func).__name__}")
        self.forward_func = forward_func
        self.is_tuple = isinstance(inputs, tuple)
        self.inputs = () if inputs is None else tuple(x.detach() for x in check_inputs(inputs))
        self.n_examples = self.inputs[0].shape[0] if self.inputs else 1
        self.targets = Targets(target, self.n_examples)
        self.args = ForwardArgs(additional_forward_args, self.n_examples)
        self._rows = (
            None if internal_batch_size is None else check_positive_int(internal_batch_size, "internal_batch_size")
        )
        self._swapped = gradient_func is not input_gradients
        self._gradient_func = gradient_func if self._swapped else partial(input_gradients, bounds=self.targets.bounds)
        self._show_progress = show_progress
        self._name = name
        self._at_inputs: Tensor | None = None
        self.output_dtype: torch.dtype | None = None  # of the latest forward without gradients
        _warn_of_train_mode(forward_func)

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
        return self._rows or automatic_rows(like or self.inputs)

    def gradients(
        self,
        points: PointSource,
        n_points: int,
        like: tuple[Tensor, ...] | None = None,
        what: str = "",
    ) -> Iterator[Tile]:
        """The gradients at the points of all examples, tile by tile; all tiles of one example follow each other.

        Raises:
            ValueError: the gradient at some point is NaN or infinite; the message names the examples.
        """
        n_rows = self.rows(like)
        # One example after another where its points fill a micro-batch, several at once where they don't; the last
        # tiles are evened out rather than left nearly empty.
        per_tile = max(1, n_rows // n_points)
        with self.progress(self.n_examples * n_points, what) as bar:
            for first, last in even_parts(self.n_examples, per_tile):
                examples = slice(first, last)
                bad: Tensor | None = None
                for start, stop in even_parts(n_points, max(1, n_rows // (last - first))):
                    tile = self._tile(points, examples, slice(start, stop))
                    for g in tile.gradients:
                        # Kept on the device until the example is done: reading it would wait for the device.
                        bad = not_finite(g) if bad is None else bad | not_finite(g)
                    yield tile
                    bar.update((last - first) * (stop - start))
                if bad is not None:
                    every = torch.zeros(self.n_examples, dtype=torch.bool, device=bad.device)
                    every[examples] = bad
                    self._refuse(every)

    def row_gradients(
        self, points: Callable[[slice], tuple[Tensor, ...]], examples: Tensor, bar: Any = None
    ) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
        """The gradients at any list of points, micro-batch by micro-batch: which rows, and (r, *feature) per element.

        Args:
            points: points(rows) -> (r, *feature) for each element of inputs.
            examples: which example each row belongs to, (R,), on the inputs' device.
            bar: a progress bar to move.

        Raises:
            ValueError: the gradient at some point is NaN or infinite; the message names the examples.
        """
        bad = torch.zeros(self.n_examples, dtype=torch.int, device=examples.device)
        for start, stop in even_parts(len(examples), self.rows()):
            rows = slice(start, stop)
            gradients = self._at(points(rows), examples[rows])
            for g in gradients:
                bad.index_add_(0, examples[rows], not_finite(g).int())
            yield rows, gradients
            if bar is not None:
                bar.update(stop - start)
        self._refuse(bad > 0)

    def _tile(self, points: PointSource, examples: slice, chosen: slice) -> Tile:
        made = points(examples, chosen)
        at = tuple(p.detach() for p in made.at)
        b, s = at[0].shape[:2]
        rows = torch.arange(examples.start, examples.stop, device=at[0].device).repeat_interleave(s)
        gradients = self._at(tuple(p.reshape(b * s, *p.shape[2:]) for p in at), rows)
        beside_points = tuple(g.reshape(b, s, *p.shape[2:]) for g, p in zip(gradients, at, strict=True))
        return Tile(examples, chosen, at, beside_points, made.differences)

    def _at(self, rows: tuple[Tensor, ...], examples: Tensor) -> tuple[Tensor, ...]:
        """The gradients at one micro-batch of rows (R, *feature) of `examples` (R,)."""
        gradients = self._gradient_func(
            forward_fn=self.forward_func,
            inputs=tuple(_leaf(r) for r in rows),
            target_ind=self.targets.of(examples),
            additional_forward_args=self.args.of(examples) or None,
        )
        return tuple(torch.zeros_like(r) if g is None else g.detach() for g, r in zip(gradients, rows, strict=True))

    def _differentiated(self, rows: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """What a gradient_func of another's differentiates, (R,), for one micro-batch."""
        with _Differentiated() as seen:
            self._at(rows, examples)
        values = torch.cat([v.detach().reshape(-1) for v in seen.outputs]) if seen.outputs else torch.empty(0)
        if len(values) != len(examples):
            raise ValueError(
                f"gradient_func differentiates {len(values)} numbers for {len(examples)} rows by torch.autograd.grad, "
                "so the explained output (for the convergence delta, n_steps='auto' or weights) can't be told; let it "
                "differentiate one number a row"
            )
        return values

    def _refuse(self, bad: Tensor) -> None:
        """Raise if the gradients of some examples (B,) are not finite."""
        if bad.any():
            raise ValueError(
                f"the gradient is NaN or infinite for examples {name_rows(bad)}; check the model there (sqrt(0), "
                "log(0), 0/0), or use a wider dtype if it is half precision"
            )

    def raw_outputs(self, rows: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """The model's whole output, without gradients, for one micro-batch of rows (R, *feature) of `examples` (R,).

        (R,), the explained output itself, where gradient_func is another's.
        """
        if self._swapped:
            output = self._differentiated(rows, examples)
            self.output_dtype = output.dtype
            return output
        with torch.no_grad():
            output = self.forward_func(*rows, *self.args.of(examples))
        if not isinstance(output, Tensor):
            raise TypeError(f"forward_func must return a Tensor, got {type(output).__name__}")
        self.output_dtype = output.dtype
        return output

    def explained(self, output: Tensor, examples: Tensor) -> Tensor:
        """The explained one of `raw_outputs` for rows of `examples` (R,): (R,), in at least float32."""
        chosen = output if self._swapped else self.targets.select(output, examples)
        return _at_least_float32(chosen).to(examples.device)

    def outputs(self, points: PointSource, n_points: int, what: str = "outputs") -> Tensor:
        """The explained output at S points of each example, (B, S), in at least float32."""
        n_rows = self.rows()
        results = []
        with self.progress(self.n_examples * n_points, what) as bar:
            for first, last in even_parts(self.n_examples, max(1, n_rows // n_points)):
                parts = []
                for start, stop in even_parts(n_points, max(1, n_rows // (last - first))):
                    at = points(slice(first, last), slice(start, stop)).at
                    rows = torch.arange(first, last, device=at[0].device).repeat_interleave(stop - start)
                    flat = tuple(p.reshape(-1, *p.shape[2:]) for p in at)
                    values = self.explained(self.raw_outputs(flat, rows), rows)
                    parts.append(values.view(last - first, -1))
                    bar.update(len(rows))
                results.append(torch.cat(parts, dim=1))
        return torch.cat(results)

    def outputs_at_inputs(self) -> Tensor:
        """The explained output of each example, (B,), in at least float32."""
        if self._at_inputs is None:
            return self.outputs(lambda e, _: Points(tuple(x[e].unsqueeze(1) for x in self.inputs)), 1).squeeze(1)
        return self.explained(self._at_inputs, torch.arange(self.n_examples, device=self.inputs[0].device))

    def raw_outputs_at_inputs(self) -> Tensor:
        """The model's whole output for each example, taken once."""
        if self._at_inputs is None:
            everyone = torch.arange(self.n_examples, device=self.inputs[0].device)
            parts = [
                self.raw_outputs(tuple(x[first:last] for x in self.inputs), everyone[first:last])
                for first, last in even_parts(self.n_examples, self.rows())
            ]
            self._at_inputs = torch.cat([o.reshape(1) if o.ndim == 0 else o for o in parts])
        return self._at_inputs

    def outputs_at_shared(self, rows: tuple[Tensor, ...]) -> Tensor:
        """The explained output of each example at the same K rows (K, *feature), (B, K), in at least float32.

        K forwards where nothing but the target belongs to an example, else B K.
        """
        count = len(rows[0])
        if self.args.any_per_example or (self._swapped and self.targets.any_per_example):
            return self.outputs(
                lambda e, chosen: Points(tuple(r[chosen].expand(e.stop - e.start, *r[chosen].shape) for r in rows)),
                count,
                "at baselines",
            )
        parts = []
        for start, stop in even_parts(count, self.rows()):
            # No argument belongs to an example, so whose rows these are matters for the target alone.
            whose = torch.zeros(stop - start, dtype=torch.long, device=rows[0].device)
            output = self.raw_outputs(tuple(r[start:stop] for r in rows), whose)
            examples = range(self.n_examples if self.targets.any_per_example else 1)
            parts.append(torch.stack([self.explained(output, torch.full_like(whose, e)) for e in examples]))
        return torch.cat(parts, dim=1).expand(self.n_examples, -1)


class _Differentiated(TorchFunctionMode):
    """Sees what torch.autograd.grad is asked to differentiate, and spares the backward pass: zeros for gradients."""

    outputs: tuple[Tensor, ...] = ()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.autograd.grad:
            return func(*args, **kwargs)
        outputs, inputs = (*args, kwargs.get("outputs"), kwargs.get("inputs"))[:2]
        self.outputs += tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
        return tuple(torch.zeros_like(x) for x in (inputs if isinstance(inputs, tuple | list) else (inputs,)))


def even_parts(n: int, most: int) -> Iterator[tuple[int, int]]:
    """Bounds of the fewest parts of range(n) with at most `most` elements each, their sizes differing by one at
    most."""
    parts = -(-n // most)
    for i in range(parts):
        yield i * n // parts, (i + 1) * n // parts


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _leaf(points: Tensor) -> Tensor:
    with torch.inference_mode(False):
        return (points.clone() if points.is_inference() else points.detach()).requires_grad_()


def _warn_of_train_mode(forward_func: object) -> None:
    if not isinstance(forward_func, nn.Module):
        return
    moody = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    kinds = sorted(
        {
            type(m).__name__
            for m in forward_func.modules()
            if m.training
            and (isinstance(m, moody) or (isinstance(m, nn.RNNBase | nn.MultiheadAttention) and m.dropout > 0))
        }
    )
    if kinds:
        warn(
            f"forward_func has modules in train mode ({', '.join(kinds)}): its outputs then depend on the other rows "
            "of a micro-batch or on chance, batch statistics are updated, and so are the attributions random. Call "
            "forward_func.eval() unless this is meant"
        )
