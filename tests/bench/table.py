"""The figures, and how they are printed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TITLES = ("figure", "ours", "nginx", "ours / nginx", "target", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line. The target is for the ratio where nginx was measured, else for our own figure, at least or at most."""

    name: str
    ours: float
    unit: str
    nginx: float | None = None
    least: float | None = None
    most: float | None = None

    @property
    def judged(self) -> float:
        """What the target is for."""
        return self.ours if self.nginx is None else self.ours / self.nginx

    @property
    def met(self) -> bool:
        """Nothing is missed of what is asked for."""
        return (self.least is None or self.judged >= self.least) and (self.most is None or self.judged <= self.most)

    def cells(self) -> tuple[str, ...]:
        """Return the line as the table has it."""
        bounds = [f"{sign} {bound:g}" for sign, bound in ((">=", self.least), ("<=", self.most)) if bound is not None]
        nginx = ("", "") if self.nginx is None else (_shown(self.nginx), f"{self.judged:.2f}")
        met = ("yes" if self.met else "**no**") if bounds else ""
        return (f"{self.name} ({self.unit})", _shown(self.ours), *nginx, " ".join(bounds), met)


def _shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def render(figures: Sequence[Figure]) -> str:
    """Return the figures as a table in Markdown."""
    rows = [_TITLES, tuple("-" for _ in _TITLES), *(figure.cells() for figure in figures)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
