"""Which device a network runs on. No card was at hand: two networks on the processor stand for the two devices."""

import numpy as np
import onnxruntime
import pytest

from siamese_index import BadInput, Gallery, NotInstalled, Tower
from siamese_index.towers import device

HAS_CARD = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_auto_takes_the_processor_where_there_is_no_card(tower_path, monkeypatch):
    if HAS_CARD:
        pytest.skip("there is a card here")
    monkeypatch.delenv(device.VARIABLE, raising=False)
    assert Tower.open(tower_path).device == "cpu"


def test_what_cannot_be_is_said(tower_path, monkeypatch, sidx, person):
    monkeypatch.setenv(device.VARIABLE, "tpu")
    with pytest.raises(BadInput, match="no device 'tpu'"):
        Tower.open(tower_path)
    if HAS_CARD:
        return
    monkeypatch.setenv(device.VARIABLE, "cuda")
    with pytest.raises(NotInstalled, match="onnxruntime-gpu"):
        Tower.open(tower_path)


def test_the_option_stands_anywhere(tower_path, tmp_path, sidx, person):
    with Gallery.create(tmp_path / "p.gallery", tower_path) as gallery:
        gallery.enroll("ada", [person(0, 0)])
    words = ["identify", person(0, 1), "-g", "p.gallery", "--threshold", "2"]
    for asked in (["--device", "cpu", *words], [*words, "--device=cpu"], [*words, "-q", "--device", "cpu"]):
        done = sidx(*asked)
        assert done.returncode == 0, done.stderr
    if not HAS_CARD:
        done = sidx(*words, "--device", "cuda")
        assert done.returncode == 7 and "onnxruntime-gpu" in done.stderr
    assert sidx(*words, "--device", "tpu").returncode == 2


def test_a_card_that_gives_other_vectors_is_not_used(tower_path, monkeypatch):
    """The real decision, with sessions of the processor: one network, the same again, and one that is a little off."""
    from siamese_index import TowerFile

    file = TowerFile.read(tower_path)
    example = np.random.default_rng(0).uniform(0, 255, (1, *file.card.input.shape)).astype(np.float32)
    monkeypatch.setenv(device.VARIABLE, "cpu")
    one, again = device.session(file.onnx, example.shape[1:]), device.session(file.onnx, example.shape[1:])
    assert device.agree(one, again, example)

    class Off:
        """A session whose numbers are off by so much."""

        def __init__(self, by):
            self.by, self.get_inputs = by, one.get_inputs

        def run(self, *given):
            return [one.run(*given)[0] + np.float32(self.by)]

    assert device.agree(Off(9e-5), one, example) and not device.agree(Off(2e-4), one, example)
    assert not device.agree(Off(np.nan), one, example)
