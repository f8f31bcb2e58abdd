"""What was changed, in sentences."""

from __future__ import annotations

from siamese_index.describe import counted

from .history import REDO, UNDO, HistoryRow


def event(row: HistoryRow) -> str:
    """Say what a change did, and to whom."""
    if row.verb in (UNDO, REDO):
        return f"undid {row.of}" if row.verb == UNDO else f"redid what {row.of} had undone"
    if row.verb == "rename" and len(row.identities) == 2:
        return f"renamed {row.identities[0]!r} to {row.identities[1]!r}"
    if row.verb == "merge" and len(row.identities) == 2:
        return f"merged {row.identities[0]!r} with {row.identities[1]!r}, whose samples its own became"
    said = _VERBS.get(row.verb, row.verb)
    if row.samples:
        said += f" {counted(row.samples, 'sample')}"
    elif row.strangers:
        said += f" {counted(row.strangers, 'stranger sample')}"
    if row.identities:
        whom = ", ".join(repr(name) for name in row.identities)
        said += f"{' of' if row.samples or row.strangers else ''} {whom}"
        said += f" and {row.others:,} more" if row.others else ""
    return said


_VERBS = {
    "init": "made the gallery",
    "enroll": "enrolled",
    "import": "imported",
    "tag": "tagged",
    "remove": "removed",
    "restore": "restored",
    "merge": "merged",
    "split": "split off",
    "move": "moved",
    "remove samples": "removed",
    "restore samples": "restored",
    "calibrate": "calibrated",
    "remove stranger": "took out",
    "restore stranger": "brought back",
    "strict": "changed strictness",
    "log": "changed the log",
    "add tower": "added a tower",
    "embed": "embedded for another tower",
    "promote": "made another tower active",
    "rollback": "went back to the tower before",
    "switch": "added another embedder",
    "correct": "corrected",
    "review": "reviewed",
    "apply": "mended",
    "purge": "purged",
}
