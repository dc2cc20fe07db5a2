"""Quadrature rules on [0, 1]: where along a path gradients are taken, and how much each counts."""

from __future__ import annotations

import numpy as np

from captum_wg.engine.checks import check_choice, check_positive_int

METHODS = (
    "gausslegendre",
    "riemann_middle",
    "riemann_left",
    "riemann_right",
    "riemann_trapezoid",
    "riemann_shared_end",
)

Quadrature = tuple[np.ndarray, np.ndarray]


def nodes_and_weights(method: str, n_steps: int, name: str = "n_steps") -> Quadrature:
    """Nodes in [0, 1], ascending, and weights that sum to 1, both (n_steps,) in float64.

    The names are Captum's, but for "riemann_shared_end": n - 1 midpoints of cells of width h = 1 / (n - 1/2), each
    counting h, and the node 1, the input itself, counting h / 2. A node 1 costs one gradient for all baselines
    together. n = 1 is the input alone.

    One departure: Captum's "riemann_trapezoid" gives weights that sum to (n - 1) / n, which shrinks every attribution
    by that factor; here they sum to 1, the rule of the textbooks, and need n_steps >= 2.

    name is the argument's name for the messages.

    Raises:
        ValueError: unknown method, n_steps < 1, or one step of the trapezoid rule.
    """
    check_choice(method, "method", METHODS)
    n = check_positive_int(n_steps, name)
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n)
        return (nodes + 1) / 2, weights / 2
    if method == "riemann_trapezoid":
        if n < 2:
            raise ValueError(f"{name} must be at least 2 for method='riemann_trapezoid', got 1")
        weights = np.full(n, 1 / (n - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, n), weights
    if method == "riemann_shared_end":
        width = 1 / (n - 0.5)
        inner = (np.arange(n - 1) + 0.5) * width
        return np.append(inner, 1.0), np.append(np.full(n - 1, width), width / 2)
    offset = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return (np.arange(n) + offset) / n, np.full(n, 1 / n)


def continuation(coarse: Quadrature, fine: Quadrature) -> tuple[Quadrature, float] | None:
    """What is missing to go from one rule to a finer one: its other nodes and weights, and the factor c for

        sum_fine = c * sum_coarse + sum_missing;

    None if the coarse nodes are not among the fine ones in the same proportions. (They are where n_fine is an odd
    multiple of n_coarse for "riemann_middle", a multiple for "riemann_left" and "riemann_right", where n_fine - 1 is a
    multiple of n_coarse - 1 for "riemann_trapezoid", 2 n_fine - 1 of 2 n_coarse - 1 for "riemann_shared_end".)
    """
    at = np.abs(fine[0] - coarse[0][:, None]).argmin(1)
    factors = fine[1][at] / coarse[1]
    if not (np.allclose(fine[0][at], coarse[0], rtol=0, atol=1e-12) and np.allclose(factors, factors[0], rtol=1e-9)):
        return None
    missing = np.ones(len(fine[0]), dtype=bool)
    missing[at] = False
    return (fine[0][missing], fine[1][missing]), float(factors[0])
