"""What a training says of itself while it runs.

A message is a dict that JSON can carry: {"step", "of", "loss", "seconds"} of a step, with {"rank1", "fnir", "eer"},
or {"spearman"}, after a look at the held-out identities; or {"stage": …}: decode, embed, data, fit, resume, budget,
interrupted, export, checkpoint, report, compare, optimize, each with what `cli.training_progress` prints of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

OnProgress = Callable[[dict[str, Any]], None]
