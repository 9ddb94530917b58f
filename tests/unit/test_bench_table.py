from __future__ import annotations

import pytest
from tests.bench.table import Figure, render


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure(name="a", unit="s", ours=2.0, least=2), True),
        (Figure(name="a", unit="s", ours=1.9, least=2), False),
        (Figure(name="a", unit="s", ours=2.0, most=2), True),
        (Figure(name="a", unit="s", ours=2.1, most=2), False),
        (Figure(name="a", unit="s", ours=50, nginx=100, least=0.5), True),
        (Figure(name="a", unit="s", ours=49, nginx=100, least=0.5), False),
    ],
)
def test_a_target_is_for_the_ratio_where_there_is_one(figure: Figure, *, met: bool) -> None:
    assert figure.met is met
    assert figure.cells()[-1] == ("yes" if met else "**no**")


def test_the_table_leaves_empty_what_was_not_measured_or_asked_for() -> None:
    compared = Figure(name="hit", unit="per s", ours=12_345.6, nginx=24_691.2, least=0.15)
    assert render([compared, Figure(name="memory", unit="MiB", ours=60.98)]).splitlines() == [
        "| figure | ours | nginx | ours / nginx | target | met |",
        "| - | - | - | - | - | - |",
        "| hit (per s) | 12,346 | 24,691 | 0.50 | >= 0.15 | yes |",
        "| memory (MiB) | 61 |  |  |  |  |",
    ]
