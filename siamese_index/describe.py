"""What results mean, in sentences: the one place where each is worded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .thresholds.decision import Decision, Evidence, Rule
from .thresholds.learning import Outlook, Threshold
from .thresholds.planning import Capacity, Plan

_WHOSE = {
    "given": "searches by the strangers you gave",
    "tower": "stranger searches",
    "gallery": "searches by the gallery's own pictures, each among the others,",
    "given + tower": "stranger searches",
    "given + gallery": "searches by the strangers you gave and by the gallery's own pictures",
    "tower + gallery": "searches by strangers and by the gallery's own pictures",
    "given + tower + gallery": "searches by strangers and by the gallery's own pictures",
}
_SET = "The threshold was set, not learned: nothing is known of its error rates."


def percent(share: float | None) -> str:
    """Return a share as a percentage, a dash for none."""
    return "–" if share is None else f"{share * 100:.3g} %"


def interval(ends: Sequence[float]) -> str:
    """Return a 95 % interval of a share."""
    return f"{ends[0]:.3f} … {ends[1]:.3f}"


# -- thresholds -----------------------------------------------------------------------------------


def evidence(found: Evidence) -> str:
    """Say what a threshold rests on, in a sentence or two."""
    if found.source == "set":
        return _SET
    if not found.searches:
        return (
            "No stranger has been searched for, so there is no threshold and nobody is named.\n"
            f"Give strangers (sidx calibrate --strangers DATA; about {found.missing}), or --threshold."
        )
    counted = (
        f"{found.false_alarms} of {found.searches} {_WHOSE[found.source]}"
        f" (worth {found.effective:.0f} independent ones)"
    )
    if found.missing and found.false_alarms:
        return (
            f"Threshold for an FPIR of {percent(found.target_fpir)} on average: {counted} match. It is stricter than"
            f" the strangers say, who are less like those enrolled.\n{found.missing} independent strangers like"
            " those who will ask are needed to promise it: sidx calibrate --strangers DATA"
        )
    if found.missing:
        return (
            f"Threshold just below the nearest stranger: {counted} match; that promises an FPIR of at most"
            f" {percent(found.promise)} (95 %).\n{found.missing} more independent strangers are needed to promise"
            f" {percent(found.target_fpir)}."
        )
    return f"Threshold for an FPIR of {percent(found.target_fpir)}: {counted} match."


def change(before: Outlook, after: Outlook) -> str:
    """Say how an enrollment moved the threshold and the misses; nothing where it did not."""
    if before.threshold is None or after.threshold is None or before.threshold == after.threshold:
        return ""
    said = f"The threshold went from {before.threshold:.4g} to {after.threshold:.4g}"
    if after.mated:
        was, now = (percent(o.misses / o.mated if o.mated else None) for o in (before, after))
        said += f", FNIR from {was} to {now} ({after.misses} of {after.mated} mated searches)"
    return said + "."


def plan(planned: Plan) -> str:
    """Say what a plan was computed from."""
    beyond = (
        ": beyond what they can show, so these are upper bounds." if planned.extrapolated else ", without sampling."
    )
    return f"From {planned.probes} searches by {planned.held_out} held-out identities{beyond}"


def capacity(result: Capacity) -> str:
    """Say how many identities a tower holds."""
    more = "at least " if result.at_least else ""
    counted = {0: "not one identity", 1: "one identity"}.get(result.identities, f"{result.identities} identities")
    return (
        f"At an FPIR of {percent(result.target_fpir)} this tower holds {more}{counted}"
        f" before {percent(result.fnir_limit)} of mated searches miss."
        + (" More held-out identities would show more." if result.at_least else "")
    )


# -- answers --------------------------------------------------------------------------------------


def decision(answer: Decision, learned: Threshold | None) -> tuple[str, ...]:
    """Return the reasons of an answer, a sentence each. `learned` None: the caller set the threshold."""
    if not answer.candidates:
        return ("Nobody is enrolled, so nobody can be named.",)
    first, tau = answer.candidates[0], answer.threshold
    said = [
        f"The nearest of those enrolled is {first.identity!r}, {first.distance:.4f} away (0: the same, 2: opposite)."
    ]
    if answer.evidence.fusion != "best":
        said[0] += f" Distances to an identity's templates are fused by their {answer.evidence.fusion}."
    if tau is None:
        said.append("There is no threshold: no stranger has been searched for, so nobody is named.")
        return tuple(said)
    side = "within" if first.distance <= tau else "beyond"
    said.append(f"That is {side} the threshold, {tau:.4f}.")
    said.append(_SET if learned is None else _promise(learned))
    if len(answer.candidates) > 1 and answer.margin is not None:
        second = answer.candidates[1]
        said.append(f"The next is {second.identity!r}, {second.distance:.4f}: farther by {answer.margin:.4f}.")
        if answer.evidence.margin:
            close = Rule(tau, answer.evidence.margin).is_ambiguous(first.distance, second.distance)
            said.append(
                f"Two within the threshold and closer than {answer.evidence.margin:.4f} would be ambiguous;"
                f" these {'cannot be told apart' if close else 'can be told apart'}."
            )
    if answer.expected_false_alarms is not None:
        said.append(f"A stranger would have about {answer.expected_false_alarms:.3g} enrolled identities this near.")
    if answer.probability is not None and answer.verdict == "match":
        said.append(
            f"If half of all probes were of strangers, {first.identity!r} would be right with probability"
            f" {answer.probability:.2f}."
        )
    verdicts = {
        "match": f"Verdict: match, {first.identity!r}.",
        "unknown": "Verdict: unknown, nobody who is enrolled.",
        "ambiguous": "Verdict: ambiguous, it may be either. Ask for another picture.",
    }
    return (*said, verdicts[answer.verdict])


def _promise(learned: Threshold) -> str:
    e, ends = learned.evidence, learned.interval()
    told = (
        f"The threshold comes from {e.searches} searches ({e.source}), worth {e.effective:.0f} independent ones,"
        f" of which {e.false_alarms} are within it"
    )
    if e.target_fpir is None or ends is None:
        return f"{told}."
    told += f"; the target is that {e.target_fpir:.2%} of strangers match,"
    told += f" and the truth is in {ends[0]:.2%} … {ends[1]:.2%} (95 %)."
    if e.missing:
        told += f" {e.missing} more independent strangers are needed to promise the target."
    return told


# -- towers ---------------------------------------------------------------------------------------


def held_out(figures: dict[str, Any]) -> str:
    """Say how good a tower is on identities it never saw (`comparison.tower_figures`)."""
    if not figures.get("searches"):
        return "No identities were held out: nothing is known of how good it is, and it brings no strangers."
    plain = figures.get("plain")
    beaten = (
        f" The plain vectors, without a tower: rank-1 {plain['rank1']:.3f}, FNIR {plain['fnir']:.3f}." if plain else ""
    )
    return (
        f"On {figures['searches']} searches by {figures['identities']} identities it never saw:"
        f" rank-1 {figures['rank1']:.3f} ({interval(figures['rank1_interval'])}), FNIR {figures['fnir']:.3f}"
        f" ({interval(figures['fnir_interval'])}) at FPIR {figures['target_fpir']:g}, EER {figures['eer']:.3f}."
        + beaten
    )


def compared(report: dict[str, Any]) -> str:
    """Say what a comparison of two towers (`comparison.compare`) rests on, and its verdict."""
    figures = report["challenger"]
    if not figures["searches"]:
        return "No enrolled identity with two pictures was held out: the two cannot be compared."
    return (
        f"{figures['searches']} searches by {figures['identities']} identities that the candidate never saw"
        f" ({report['champion_has_seen']} of them the active tower was trained on): {report['verdict']}."
    )


def comparison(report: dict[str, Any]) -> list[dict[str, str]]:
    """Return a comparison's figures as rows for people; none when nothing could be compared."""
    rows = []
    for name in ("rank1", "fnir", "eer") if "fnir_change" in report else ():
        ends = report.get(f"{name}_interval")
        rows.append(
            {
                "figure": name,
                "active": percent(report["champion"][name]),
                "candidate": percent(report["challenger"][name]),
                "95 % interval of the change": "–" if ends is None else f"{percent(ends[0])} … {percent(ends[1])}",
            }
        )
    return rows
