"""Answer "who or what is this?" from one example per identity.

`Gallery` holds enrolled identities in one file, `Tower` turns pictures into vectors. Training lives
in `siamese_index.training`, which alone needs TensorFlow.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._package import __version__

if TYPE_CHECKING:
    from .enrollment import Enrollment
    from .errors import (
        BadInput,
        Conflict,
        Damaged,
        Locked,
        Missing,
        NoSubject,
        NotInstalled,
        Refusal,
        SiameseIndexError,
        Unreadable,
    )
    from .gallery import Gallery
    from .identify import Verification
    from .thresholds.calibration import Calibration
    from .thresholds.decision import Candidate, Decision, Evidence
    from .thresholds.learning import Outlook
    from .thresholds.planning import Capacity, Plan
    from .towers.tower import Tower
    from .towers.tower_file import Cohort, TowerFile

# ONNX Runtime reads this when it is imported; without it a device id is written and a server is looked up.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Each is imported when first used: the command line has something to say before numpy is loaded.
_HOMES = {
    "Gallery": "gallery",
    "Enrollment": "enrollment",
    "Calibration": "thresholds.calibration",
    "Outlook": "thresholds.learning",
    "Verification": "identify",
    "Candidate": "thresholds.decision",
    "Decision": "thresholds.decision",
    "Evidence": "thresholds.decision",
    "Capacity": "thresholds.planning",
    "Plan": "thresholds.planning",
    "Tower": "towers.tower",
    "Cohort": "towers.tower_file",
    "TowerFile": "towers.tower_file",
    "BadInput": "errors",
    "Conflict": "errors",
    "Damaged": "errors",
    "Locked": "errors",
    "Missing": "errors",
    "NoSubject": "errors",
    "NotInstalled": "errors",
    "Refusal": "errors",
    "SiameseIndexError": "errors",
    "Unreadable": "errors",
}
__all__ = [
    "BadInput",
    "Calibration",
    "Candidate",
    "Capacity",
    "Cohort",
    "Conflict",
    "Damaged",
    "Decision",
    "Enrollment",
    "Evidence",
    "Gallery",
    "Locked",
    "Missing",
    "NoSubject",
    "NotInstalled",
    "Outlook",
    "Plan",
    "Refusal",
    "SiameseIndexError",
    "Tower",
    "TowerFile",
    "Unreadable",
    "Verification",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
