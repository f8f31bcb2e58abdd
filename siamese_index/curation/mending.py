"""What the audit proposes, carried out: any number of its findings as one change."""

from __future__ import annotations

from collections.abc import Sequence

from siamese_index.analysis.audit import ContentFinding
from siamese_index.errors import BadInput, Outdated
from siamese_index.session import Change, Session
from siamese_index.thresholds.strangers import compare

from .samples import rearrange, set_aside


def apply(session: Session, findings: Sequence[ContentFinding]) -> list[str]:
    """Carry out findings in one change; return what was done, a sentence each. Raises BadInput, Locked.

    Two that are one are merged; a mistaken sample is moved to whom it looks like; outliers and duplicates are removed,
    and so are strangers who are enrolled.
    """
    if not findings:
        raise BadInput("No finding is named.", remedy="See their ids: sidx doctor --content")
    idle = next((finding for finding in findings if not finding.can_be_applied), None)
    if idle is not None:
        raise BadInput(f"{idle.id}: this finding proposes no change.", idle.remedy)
    with session.changing("apply") as change:
        change.record(samples=sum(finding.sample is not None for finding in findings))
        owners: dict[int, int] = {}
        merged: dict[int, int] = {}
        done, aside = [], False
        for finding in findings:
            if finding.kind == "stranger enrolled":
                aside = True
                ids = change.store.impostors.named(change.state.active.id, finding.other or "")
                change.store.impostors.set_removed(ids, change.store.events.current)
                done.append(f"Stranger {finding.other!r} no longer counts.")
            elif finding.kind == "one of two":
                identity, other = (_still(change, name, finding) for name in (finding.identity, finding.other))
                _merge(change, other, identity, merged)
                done.append(f"{finding.other!r} is now {finding.identity!r}.")
            elif finding.sample is not None:
                _refuse_moved(change, finding, owners)
                if finding.kind == "mistaken":
                    owners[finding.sample] = _still(change, finding.other, finding)
                    done.append(f"Sample {finding.sample} is now of {finding.other!r}.")
                else:
                    owners |= set_aside(change, [finding.sample])
                    done.append(f"Sample {finding.sample} of {finding.identity!r} is out of use.")
        for identity in merged:
            owners = dict.fromkeys(change.store.samples_of([identity]), identity) | owners
        owners = {sample: _end(merged, identity) for sample, identity in owners.items()}
        store = change.store
        emptied = set(rearrange(change, owners)) - {
            finding.other for finding in findings if finding.kind == "one of two"
        }
        store.events.change("identity.removed_from", {one: _end(merged, one) for one in merged})
        done += [f"{name!r} has no sample any more, and is not enrolled." for name in sorted(emptied)]
        if aside:
            compare(change.store, change.state.active.id, change.state.active.dimension)
            change.impostors.recompute()
    return done


def _still(change: Change, name: str | None, finding: ContentFinding) -> int:
    identity = change.store.identity(name or "")
    if identity is None:
        raise _stale(finding)
    return identity


def _refuse_moved(change: Change, finding: ContentFinding, owners: dict[int, int]) -> None:
    rows = change.store.samples(ids=[finding.sample or 0])
    if not rows or rows[0].identity != finding.identity or finding.sample in owners:
        raise _stale(finding)


def _stale(finding: ContentFinding) -> Outdated:
    return Outdated(
        f"{finding.id}: this finding does not stand any more.",
        "What it is about was changed meanwhile, or by another finding of the same call.",
        "Look again: sidx doctor --content",
    )


def _merge(change: Change, identity: int, to: int, merged: dict[int, int]) -> None:
    """Note that an identity becomes another, with the tags that this one lacks."""
    identity, to = _end(merged, identity), _end(merged, to)
    if identity == to:
        return
    tags = change.store.tags()
    change.store.tag([to], sorted((tags.get(identity, {}) | tags.get(to, {})).items()))
    merged[identity] = to


def _end(merged: dict[int, int], identity: int) -> int:
    """Return who an identity is after all merges."""
    while identity in merged:
        identity = merged[identity]
    return identity
