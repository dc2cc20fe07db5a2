"""Quadrature rules on [0, 1]: where along a path gradients are taken, and how much each counts."""

from __future__ import annotations

import numpy as np

from captum_wg.arguments import check_choice, check_positive_int

METHODS = ("gausslegendre", "riemann_middle", "riemann_left", "riemann_right", "riemann_trapezoid")


def nodes_and_weights(method: str, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [0, 1] and weights that sum to 1, both (n_steps,) in float64.

    The names are Captum's. One departure: Captum's "riemann_trapezoid" gives weights that sum to (n - 1) / n, which
    shrinks every attribution by that factor; here they sum to 1, the rule of the textbooks, and need n_steps >= 2.

    Raises:
        ValueError: unknown method, n_steps < 1, or one step of the trapezoid rule.
    """
    check_choice(method, "method", METHODS)
    n = check_positive_int(n_steps, "n_steps")
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n)
        return (nodes + 1) / 2, weights / 2
    if method == "riemann_trapezoid":
        if n < 2:
            raise ValueError("n_steps must be at least 2 for method='riemann_trapezoid', got 1")
        weights = np.full(n, 1 / (n - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, n), weights
    offset = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return (np.arange(n) + offset) / n, np.full(n, 1 / n)
