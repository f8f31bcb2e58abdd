"""The short form of `make torture`: some of the kills, and proof that the harness bites."""

import shutil

import pytest

from tests import torture


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return torture.make_material(tmp_path_factory.mktemp("material"))


@pytest.mark.keras
def test_a_gallery_killed_anywhere_is_whole(material):
    count, wrong = torture.torture(material, sample=30)
    assert count == 30
    assert wrong == {}


@pytest.mark.keras
@pytest.mark.parametrize("mutant", ["split-transaction", "cache-in-place"])
def test_the_harness_bites(material, mutant):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: kills at random moments are too few to catch a mutant")
    assert torture.bite(material, mutant)[1]
