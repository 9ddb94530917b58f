from __future__ import annotations

from pkgserver_trio.recent import Recent, Use


def test_the_newest_use_comes_first_and_serving_is_counted() -> None:
    recent = Recent()
    recent.use(1, 100)
    recent.serve(1)
    recent.use(2, 200)
    assert list(recent) == [Use(2, 200, 0), Use(1, 100, 1)]
    recent.serve(1)
    recent.use(1, 300)
    assert list(recent) == [Use(1, 300, 2), Use(2, 200, 0)]


def test_what_is_served_before_it_is_stored_is_counted_all_the_same() -> None:
    recent = Recent()
    recent.serve(1)
    recent.use(1, 100)
    assert list(recent) == [Use(1, 100, 1)]


def test_no_more_are_remembered_than_asked_for() -> None:
    recent = Recent(2)
    for key in (1, 2, 1, 3):
        recent.serve(key)
    assert list(recent) == [Use(3, 0, 1), Use(1, 0, 2)]
    assert len(recent) == 2


def test_what_is_dropped_is_forgotten_and_so_is_nothing_else() -> None:
    recent = Recent()
    recent.use(1, 100)
    recent.drop(1)
    recent.drop(2)
    assert len(recent) == 0


def test_what_a_scan_found_is_older_than_all_and_changes_nothing_that_is_known() -> None:
    recent = Recent(4)
    recent.use(1, 1000)
    recent.serve(1)
    recent.seed([(10, 5), (20, 4), (30, 1), (40, 3), (50, 2)])
    assert list(recent) == [Use(1, 1000, 1), Use(2, 50, 0), Use(3, 40, 0), Use(4, 20, 0)]


def test_a_full_memory_takes_nothing_from_a_scan() -> None:
    recent = Recent(1)
    recent.use(1, 1000)
    recent.seed([(10, 2)])
    assert list(recent) == [Use(1, 1000, 0)]
