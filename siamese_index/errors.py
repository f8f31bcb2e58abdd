"""Every error that a user can meet: what happened, why, and what to do about it.

SiameseIndexError        2  base; itself never raised
├─ BadInput              2  a name, option, vector or table that cannot be accepted
│  └─ Conflict           2  a sample that looks like another identity than the one it is said to show
├─ Unreadable            3  a picture or vector file that cannot be read
│  └─ SeveralSubjects    3  a picture with several faces, where one is needed
├─ Missing               4  no such gallery, tower, identity or file, or no right to use it
├─ Locked                5  another process is writing
│  └─ Outdated           5  what the request is about was changed meanwhile
├─ Damaged               6  a gallery or tower whose content contradicts itself
├─ NotInstalled          7  an optional part is not installed
└─ NoSubject            12  a picture that shows nothing
"""

from __future__ import annotations

import re
from dataclasses import dataclass


class SiameseIndexError(Exception):
    """Says `what` happened, `why`, and the `remedy`: three lines for the person who must act."""

    exit_code = 2

    def __init__(self, what: str, why: str = "", remedy: str = "") -> None:
        self.what, self.why, self.remedy = what, why, remedy
        super().__init__(what, why, remedy)

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.why, self.remedy) if line)


class BadInput(SiameseIndexError):
    """The request itself must change."""

    exit_code = 2


class Conflict(BadInput):
    """A sample looks like another enrolled identity; the name, or the insistence, must change."""


class Unreadable(SiameseIndexError):
    """A picture or vector that came in cannot be used."""

    exit_code = 3


class SeveralSubjects(Unreadable):
    """A picture in which there are several, where one is needed."""


class Missing(SiameseIndexError):
    """Something that the request names is not there, or may not be read or written."""

    exit_code = 4


class Locked(SiameseIndexError):
    """Another process holds the gallery; trying again later helps."""

    exit_code = 5


class Outdated(Locked):
    """What the request is about was changed meanwhile; look again."""


class Damaged(SiameseIndexError):
    """Stored content fails its own checks."""

    exit_code = 6


class NotInstalled(SiameseIndexError):
    """An optional part is missing; the remedy is a pip command."""

    exit_code = 7


class NoSubject(SiameseIndexError):
    """A picture in which there is nothing to recognise."""

    exit_code = 12


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sample or probe that was not taken, and why."""

    source: str
    error: SiameseIndexError
    name: str | None = None  # of the identity that it was to be

    @property
    def code(self) -> str:
        """The kind of error as one word: bad_input, conflict, unreadable, several_subjects, missing, no_subject."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self.error).__name__).lower()
