"""Counts by year -> the bars of their plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTHS = (1, 2, 5, 10, 20, 50, 100, 10_000)
"""Years in one bar."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the plot of papers per year."""

    first: int
    last: int
    papers: int
    height: float
    """In percent of the tallest."""

    @property
    def years(self) -> str:
        """The years it stands for."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    @property
    def where(self) -> str:
        """The condition that its papers meet."""
        return f"year={self.first}" if self.first == self.last else f"year={self.first}..{self.last}"


def bars(years: Sequence[tuple[int, int]], most: int) -> list[Bar]:
    """Return the plot of papers per year, years without papers included; each bar as many years wide as needed.

    Args:
        years: Years with their counts, ascending.
        most: Most bars.
    """
    if not years:
        return []
    low, high = years[0][0], years[-1][0]
    width = next(each for each in WIDTHS if high // each - low // each < most)
    counts = dict.fromkeys(range(low // width, high // width + 1), 0)
    for year, n in years:
        counts[year // width] += n
    tallest = max(counts.values())
    return [Bar(each * width, each * width + width - 1, n, round(100 * n / tallest, 2)) for each, n in counts.items()]
