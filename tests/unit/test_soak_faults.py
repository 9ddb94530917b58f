"""The soak's faults: what is damaged must be so that somebody can tell."""

from __future__ import annotations

from random import Random

import pytest
from tests.soak.catalogue import Catalogue, build_catalogue
from tests.soak.faults import GET_FAULTS
from tests.unit.tarballs import hashes_of

from pkgserver_trio.tarballs.tree_hash import TarballError


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return build_catalogue("seed", states=1)


@pytest.mark.parametrize("kind", ["damaged", "same tag, damaged", "HTML", "empty"])
def test_damaged_tarball_has_no_tree_at_all(catalogue: Catalogue, kind: str) -> None:
    smallest = min(catalogue.tarballs, key=lambda tarball: tarball.smallest)
    for seed in range(200):
        for good in smallest.answers:
            damaged = GET_FAULTS[kind](Random(seed), catalogue, good)
            with pytest.raises(TarballError):
                hashes_of(damaged.body)


def test_another_tree_is_another_tree(catalogue: Catalogue) -> None:
    path, (good, *_) = catalogue.tarballs[0].path, catalogue.tarballs[0].answers
    other = GET_FAULTS["another tree"](Random(1), catalogue, good)
    assert not hashes_of(other.body).include(path.rpartition("/")[2])
