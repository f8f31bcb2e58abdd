"""The short form of `make torture`: some of the kills, and proof that the harness bites."""

import shutil

import pytest

from tests import together, torture


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    return torture.make_material(tmp_path_factory.mktemp("material"))


@pytest.mark.keras
def test_a_gallery_killed_anywhere_is_whole(material):
    count, wrong = torture.torture(material, sample=20)
    assert count == 20
    assert wrong == {}


@pytest.mark.keras
def test_what_processes_are_told_and_keep_is_true_while_the_tower_is_swapped(material, tmp_path):
    done = together.processes(tmp_path, material, 6, 5.0)
    assert done["wrong"] == 0
    assert all(done[kind] for kind in (*together.KINDS, "logged")), done


@pytest.mark.keras
@pytest.mark.parametrize("mutant", ["split-transaction", "cache-in-place"])
def test_the_harness_bites(material, mutant):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: kills at random moments are too few to catch a mutant")
    assert torture.bite(material, mutant)[1]
