"""Tables of benchmarks: means with their bootstrap intervals, and when one row is better than another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def interval(values: Sequence[float], *, draws: int = 2000, of: Callable = np.mean) -> tuple[float, float, float]:
    """Mean (or what `of` computes along an axis) and 95 % bootstrap interval of (n,) values: (mean, low, high)."""
    values = np.asarray(values, float)
    picks = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(of(values[picks], axis=1), [2.5, 97.5])
    return float(of(values, axis=0)), float(low), float(high)


def better(ours: Sequence[float], theirs: Sequence[float], *, higher: bool) -> bool:
    """Whether `ours` beats `theirs` pair by pair: the interval of the mean difference excludes 0."""
    _, low, high = interval(np.asarray(ours, float) - np.asarray(theirs, float))
    return low > 0 if higher else high < 0


def table(rows: dict[str, dict[str, Sequence[float]]], *, digits: int = 2, median: Sequence[str] = ()) -> str:
    """Rows of named lists of values as text: n, then mean [low, high] a column, the median in columns of `median`."""
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = [["", "n", *columns]]
    for name, row in rows.items():
        line = [name, str(max(len(v) for v in row.values()))]
        for column in columns:
            of = np.median if column in median else np.mean
            line.append(
                "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*interval(row[column], of=of), d=digits) if column in row else ""
            )
        lines.append(line)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines)
