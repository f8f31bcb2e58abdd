"""Random lives of galleries: all undone and redone, and somebody purged from each.

    python -m tests.histories --histories 500 --purges 1000

Each history is some twenty random changes, then undone one by one to the start, compared at each step with what was
there, and redone to the end. After each purge every file is searched for the bytes of vectors and of the name.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def count_failures(test: Callable[..., None], seeds: range) -> list[str]:
    wrong = []
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="histories-") as home:
            try:
                test(Path(home), seed)
            except Exception as error:  # noqa: BLE001  # any is what we look for
                wrong.append(f"{seed}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return wrong


def main() -> None:
    from siamese_index.training import train
    from siamese_index.training.glyphs import draw
    from tests.curation.test_history import test_a_random_history_undone_is_the_start_and_redone_the_end as history
    from tests.curation.test_purge import test_random_galleries_hold_nothing_of_who_was_purged as purge
    from tests.curation.test_purge import test_random_galleries_of_pictures_hold_nothing_of_who_was_purged as pictured

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=500)
    parser.add_argument("--purges", type=int, default=1000)
    options = parser.parse_args()
    with pytest.MonkeyPatch.context() as patch:
        began = time.monotonic()
        wrong = count_failures(lambda home, seed: history(home / "g.gallery", seed, patch), range(options.histories))
        print(f"{options.histories} histories in {time.monotonic() - began:.0f} s: {len(wrong)} wrong")
        began = time.monotonic()
        lost = count_failures(lambda home, seed: purge(home / "g.gallery", home, seed), range(options.purges))
        print(f"{options.purges} purges in {time.monotonic() - began:.0f} s: {len(lost)} wrong")
    with tempfile.TemporaryDirectory(prefix="histories-") as home:
        draw(Path(home) / "learn", range(10), range(6))
        tower = Path(home) / "t.tower"
        train(Path(home) / "learn", steps=5, size=32, dimension=16, out=tower)
        began = time.monotonic()
        lost += (seen := count_failures(lambda home, seed: pictured(tower, home, seed), range(options.purges)))
        print(f"{options.purges} purges with pictures in {time.monotonic() - began:.0f} s: {len(seen)} wrong")
    for line in wrong + lost:
        print(line)
    sys.exit(bool(wrong or lost))


if __name__ == "__main__":
    main()
