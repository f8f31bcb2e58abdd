"""`sidx doctor`: check a gallery, or what is enrolled in it."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Annotated

import typer

from siamese_index import BadInput, Gallery, Missing, describe
from siamese_index.analysis.audit import ContentFinding
from siamese_index.describe import percent

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, Place, quoted
from .output import AsJson, emit, facts, for_a_person, note, progress

EXAMPLE = "sidx doctor -g people.gallery"


def doctor(
    gallery: GalleryOption = DEFAULT_GALLERY,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be derived again.")] = False,
    content: Annotated[
        bool,
        typer.Option(
            "--content",
            help="Examine what is enrolled: wrong names, doubles, outliers, and who is often missed.",
        ),
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry out the findings of --content with these ids, as one change.")
    ] = False,
    interactive: Annotated[
        bool,
        typer.Option("--interactive", help="Go through the findings of --content, and carry out those you accept."),
    ] = False,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Findings, with --apply.")] = None,
    as_json: JsonOption = None,
) -> None:
    """Check a gallery from its bytes to its threshold. Exit 6 when something is wrong.

    With --content: examine what is enrolled instead, each finding with how the error rates would
    move if it were corrected. --apply ID... carries out what findings propose; sidx undo takes it back.
    """
    if apply != bool(ids) or (apply and interactive):
        raise BadInput("--apply goes with the ids of findings.", remedy="See them: sidx doctor --content")
    if apply or interactive:
        if fix:
            raise BadInput("--fix repairs what can be computed again.", remedy="Leave it out.")
        if interactive and as_json is not None:
            raise BadInput("--interactive is for a person.", remedy="Leave out --json, or --apply ID...")
        _mend(gallery, ids, as_json)
        return
    if content:
        if fix:
            raise BadInput(
                "--fix repairs what can be computed again.", "What --content finds is for you to judge.", "Give one."
            )
        _audit(gallery, as_json)
        return
    from siamese_index.analysis import doctor as checks

    found = checks.examine(gallery)
    if fix and any(finding.fixable for finding in found.findings):
        checks.fix(gallery)
        note(f"Fixed: {'; '.join(f.what for f in found.findings if f.fixable)}.")
        found = checks.examine(gallery)
    facts({"gallery": str(gallery), **found.facts, "problems": [f.what for f in found.findings]}, as_json)
    if found.findings:
        if any(finding.fixable for finding in found.findings):
            note(f"Fix what can be computed again:  sidx doctor --fix -g {quoted(gallery)}")
        raise typer.Exit(6)
    note("Nothing is wrong.")


def _mend(gallery: Place, ids: list[str] | None, as_json: AsJson) -> None:
    """Carry out the findings of these ids, or those that are accepted one by one."""
    with Gallery.open(gallery) as opened:
        with progress("weighing findings", 60) as tick:
            found = [finding for finding in opened.audit(tick).findings if finding.can_be_applied or ids]
        if ids:
            lost = next((wanted for wanted in ids if all(finding.id != wanted for finding in found)), None)
            if lost is not None:
                raise Missing(f"There is no finding {lost!r}, or not any more.", remedy="See: sidx doctor --content")
            chosen = [finding for finding in found if finding.id in ids]
        else:
            chosen = _accepted(opened, found)
        if not chosen:
            note("Nothing was changed.")
            return
        before = opened.outlook()
        done = opened.curation.apply(chosen)
        changed, revision = describe.change(before, opened.outlook()), opened.revision
    if not for_a_person(as_json):
        facts({"revision": revision, "done": done}, as_json)
    for sentence in [*done, changed]:
        note(sentence)
    note(f"Take it back:  sidx undo -g {quoted(gallery)}")


def _accepted(gallery: Gallery, findings: list[ContentFinding]) -> list[ContentFinding]:
    """Ask about findings one by one; return those that are to be carried out. What is typed may be piped, too."""
    from siamese_index.analysis import glance

    from .terminal_pictures import show_pictures

    accepted = []
    for number, finding in enumerate(findings, 1):
        note(f"\n{number} of {len(findings)}: {finding.kind}. {finding.what}")
        if finding.sample is not None:
            show_pictures(gallery, glance.samples(gallery, [finding.sample]), None, None, None)
        note(f"{finding.remedy}\nCarry it out?  y yes, n no, q no more")
        answer = _answered()
        if answer == "y":
            accepted.append(finding)
        elif answer in ("q", ""):
            break
    return accepted


def _answered() -> str:
    """Return y, n or q, or nothing at the end of what is typed; ask again for anything else."""
    while (typed := sys.stdin.readline()) and typed.strip().lower()[:1] not in ("y", "n", "q"):
        note("y, n or q?")
    return typed.strip().lower()[:1]


def _audit(gallery: Place, as_json: AsJson) -> None:
    with Gallery.open(gallery) as opened, progress("weighing findings", 60) as tick:
        found = opened.audit(tick)
    emit(
        [finding.to_dict() for finding in found.findings],
        as_json,
        ["id", "kind", "probability", "what", "remedy", "fnir_change", "fpir_change"],
    )
    if found.threshold is None:
        note("There is no threshold yet, so nothing can be judged: sidx calibrate --strangers FOLDER")
        return
    kinds = Counter(finding.kind for finding in found.findings)
    note("; ".join(f"{count} {kind}" for kind, count in kinds.items()) or "Nothing stands out.")
    note(
        f"At the threshold {found.threshold:.4g}: FNIR {percent(found.fnir)} of {found.mated} mated searches,"
        f" FPIR {percent(found.fpir)} of {found.strangers} searches with strangers. Each change says how FNIR and FPIR"
        " would move if this finding were corrected."
    )
    if any(finding.can_be_applied for finding in found.findings):
        doubtful = sum(not finding.is_probable for finding in found.findings)
        if doubtful:
            note(
                f"{doubtful} of these are probably right as they are (their probability is below 0.5): the tower takes"
                " them for others. Look before you apply them."
            )
        note(f"Carry out what findings propose:  sidx doctor --apply ID... -g {quoted(gallery)}")
        note(f"One by one:  sidx doctor --interactive -g {quoted(gallery)}")
