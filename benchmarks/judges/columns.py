"""The registry of all columns, in the tables' order."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.judges import correlations, quantus_columns, removals
from benchmarks.judges.judge import Judge
from benchmarks.run.errors import BenchmarkError

JUDGES: dict[str, Judge] = {
    judge.name: judge
    for judge in (
        *quantus_columns.FAITHFULNESS,
        *removals.JUDGES,
        *correlations.JUDGES,
        *quantus_columns.OTHERS,
    )
}


def choose(names: Sequence[str], masks: bool = False, option: str = "--judges") -> list[Judge]:
    """The judges of these names, with or without the form of the maps, in the registry's order.

    Args:
        masks: whether there are masks.
        option: that the names were given by.

    Raises:
        BenchmarkError: unknown name, or a judge of masks without masks.
    """
    known = dict.fromkeys([*(judge.metric for judge in JUDGES.values()), *JUDGES])
    if unknown := [name for name in names if name not in known]:
        what = "metric" if option == "--metrics" else "judge"
        raise BenchmarkError(f"unknown {what} {', '.join(map(repr, unknown))}; known are {', '.join(known)}")
    chosen = [judge for judge in JUDGES.values() if judge.name in names or judge.metric in names]
    if not masks and (lacking := [judge.name for judge in chosen if judge.masks]):
        raise BenchmarkError(f"{', '.join(lacking)} needs masks: --data coco, or --masks FOLDER")
    return chosen


def usual(masks: bool) -> list[str]:
    """All but the slow ones; those of masks only where there are masks."""
    return [name for name, judge in JUDGES.items() if not judge.slow and (masks or not judge.masks)]
