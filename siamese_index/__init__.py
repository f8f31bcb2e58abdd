"""Answer "who or what is this?" from one example per identity.

`Gallery` holds enrolled identities in one file, `Tower` turns pictures into vectors. Training lives
in `siamese_index.training`, which alone needs TensorFlow.
"""

from .answering import Outlook, Verification
from .decision import Candidate, Decision, Evidence
from .enrollment import Enrollment, Refusal
from .errors import BadInput, Conflict, Damaged, Locked, Missing, NotInstalled, SiameseIndexError, Unreadable
from .gallery import Calibration, Gallery
from .planning import Capacity, Plan
from .tower import Cohort, Tower, TowerFile

__version__ = "0.1.0"
__all__ = [
    "BadInput", "Calibration", "Candidate", "Capacity", "Cohort", "Conflict", "Damaged", "Decision", "Enrollment",
    "Evidence", "Gallery", "Locked", "Missing", "NotInstalled", "Outlook", "Plan", "Refusal", "SiameseIndexError",
    "Tower", "TowerFile", "Unreadable", "Verification",
]  # fmt: skip
