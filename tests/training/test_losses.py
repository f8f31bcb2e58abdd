"""The losses against plain loops, and their gradients against differences. Loads Keras: runs in a child process."""

import subprocess
import sys
from pathlib import Path

import pytest

from siamese_index import BadInput
from siamese_index.training import losses


@pytest.mark.keras
def test_every_loss_is_its_formula_and_its_gradient_is_right():
    script = Path(__file__).with_name("losses_by_hand.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # Each by name is in the script: a loss that is added there is added here.
    text = script.read_text()
    assert [
        n for n in losses.ON_VECTORS | losses.ON_COSINES | losses.GRADED if f"losses.{n.replace('-', '_')}(" not in text
    ] == []


def test_an_unknown_loss_or_option_is_named():
    with pytest.raises(BadInput, match="no loss 'centre'"):
        losses.objective("centre", 3, {})
    with pytest.raises(BadInput, match="does not take these options") as caught:
        losses.objective("triplet", 3, {"marge": 1.0})
    assert "marge" in caught.value.why
    with pytest.raises(BadInput, match="no mining 'easy'"):
        losses.objective("triplet", 3, {"mining": "easy"})
