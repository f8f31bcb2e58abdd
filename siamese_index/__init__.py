"""Answer "who or what is this?" from one example per identity.

`Gallery` holds enrolled identities in one file, `Tower` turns pictures into vectors. Training lives
in `siamese_index.training`, which alone needs TensorFlow.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answering import Outlook, Verification
    from .calibrating import Calibration
    from .decision import Candidate, Decision, Evidence
    from .enrollment import Enrollment, Refusal
    from .errors import BadInput, Conflict, Damaged, Locked, Missing, NotInstalled, SiameseIndexError, Unreadable
    from .gallery import Gallery
    from .planning import Capacity, Plan
    from .tower import Cohort, Tower, TowerFile

# ONNX Runtime counts this only before it is imported; without it a device id is made and a server is looked up.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "BadInput", "Calibration", "Candidate", "Capacity", "Cohort", "Conflict", "Damaged", "Decision", "Enrollment",
    "Evidence", "Gallery", "Locked", "Missing", "NotInstalled", "Outlook", "Plan", "Refusal", "SiameseIndexError",
    "Tower", "TowerFile", "Unreadable", "Verification",
]  # fmt: skip

# Imported when first used: the command line has something to say before numpy is loaded.
_ROOMS = {
    "answering": ("Outlook", "Verification"),
    "calibrating": ("Calibration",),
    "decision": ("Candidate", "Decision", "Evidence"),
    "enrollment": ("Enrollment", "Refusal"),
    "errors": (
        "BadInput",
        "Conflict",
        "Damaged",
        "Locked",
        "Missing",
        "NotInstalled",
        "SiameseIndexError",
        "Unreadable",
    ),
    "gallery": ("Gallery",),
    "planning": ("Capacity", "Plan"),
    "tower": ("Cohort", "Tower", "TowerFile"),
}


def __getattr__(name: str) -> Any:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f".{room}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
