"""What results mean, in sentences: the one place where each is worded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .thresholds.decision import Decision, Evidence, Rule

if TYPE_CHECKING:
    from .thresholds.calibration import Calibration
    from .thresholds.drift import Drift
    from .thresholds.learning import Outlook, Threshold
    from .thresholds.planning import Capacity, Plan
    from .thresholds.suspects import Suspicion

_WHOSE = {
    "given": "searches with the strangers that you gave",
    "tower": "searches with strangers that the tower brings",
    "gallery": "searches with the gallery's own pictures, each among the others",
    "given + tower": "searches with strangers",
    "given + gallery": "searches with your strangers and the gallery's own pictures",
    "tower + gallery": "searches with strangers and the gallery's own pictures",
    "given + tower + gallery": "searches with strangers and the gallery's own pictures",
}
GLOSSARY = {  # of docs/glossary.md: what a page of results needs
    "stranger": "somebody who is not enrolled (the field says impostor)",
    "threshold": "the largest distance that still counts as a match",
    "identity": "a named person, thing or class that is enrolled",
    "sample": "one picture, or one vector, as it came in",
    "template": "the numbers that a tower makes of a sample: a vector of length 1",
    "gallery": "the enrolled identities, N of them; a file",
    "probe": "the sample that is being asked about",
    "cohort": "the strangers that a gallery knows, to learn its threshold from",
    "tower": "the network that turns samples into templates (one arm of a Siamese network); a `.tower` file",
    "distance": "how unlike two templates are: 0 the same, 2 opposite",
    "mated search": "a search with a probe of somebody who is enrolled",
    "non-mated search": "a search with a probe of somebody who is not",
    "FPIR": "false positive identification rate: the share of strangers who are taken for somebody",
    "FNIR": "false negative identification rate: the share of mated searches that do not return their identity",
    "FMR": "false match rate: the share of comparisons of two identities that are accepted",
    "FNMR": "false non-match rate: the share of comparisons of one identity that are rejected",
    "EER": "equal error rate: where FMR and FNMR are the same; one figure for a tower",
    "rank-1": "the share of mated searches whose nearest identity is the right one, whatever the threshold",
    "CMC": "cumulative match characteristic: the share found among the first 1, 2, … k",
    "DET": "detection error trade-off: a curve of misses over false alarms, at every threshold",
    "margin": "two identities within the threshold whose distances differ by less are ambiguous",
    "fusion": "how the distances to several pictures of an identity become one",
    "card": "what is known of a tower: what it was trained on, how good it is",
    "generation": "a tower together with its templates and its threshold in a gallery; one is active",
    "recipe": "how to train: which tower, which loss, how it is fed; a small TOML file",
    "interval": "the 95 % confidence interval of a rate: where the truth is likely to be",
}
NOBODY = "Nobody is enrolled yet: sidx enroll NAME PICTURE"
_SET = "The threshold was set, not learned: nothing is known of its error rates."


def state(result: Calibration) -> str:
    """Say in three sentences who gets in, who is missed, and what to do next."""
    found = result.evidence
    if not result.identities or result.threshold is None or result.fpir_interval is None:
        return evidence(found, enrolled=result.identities > 0)
    if found.fitted:
        gets_in = (
            f"About {_of_hundred(found.target_fpir)} strangers will be let in {_kept(found)}, by a distribution fitted"
            f" to {counted(found.searches, 'search')}; so few cannot rule out {_of_hundred(found.promise)}."
        )
    else:
        share = found.false_alarms / found.searches
        gets_in = (
            f"About {_of_hundred(share)} strangers are let in, and with 95 % confidence {_range(result.fpir_interval)}"
            f" (counted on {counted(found.searches, 'search')}, worth {found.effective:,.0f} independent ones)."
        )
    if result.fnir is None:
        missed = "How many of the enrolled are missed is not known: no identity has two pictures."
    else:
        missed = (
            f"{_of_hundred(result.fnir)} searches by the enrolled miss them, and with 95 % confidence"
            f" {_range(result.fnir_interval)}"
        )
        missed += " (judged by pictures of the same stranger)." if result.fnir_from_strangers else "."
    if found.unlike:
        then = "The strangers are not like those enrolled: give others, taken as the enrolled are."
    elif found.missing:
        then = _ADD.format(found.missing)
    elif result.fnir is None or result.fnir_from_strangers:
        then = "To miss fewer, enroll a second picture of each; to let fewer in: sidx calibrate --fpir " + (
            f"{(found.target_fpir or 0.01) / 2:g}"
        )
    else:
        then = (
            "To miss fewer, enroll more pictures of each or retrain; to let fewer in: sidx calibrate --fpir"
            f" {(found.target_fpir or 0.01) / 2:g}"
        )
    said = [gets_in, missed, then]
    if result.shift_waits:
        said.append("The threshold does not move with the probe: too few strangers that you gave are left.")
    return "\n".join(said)


def _of_hundred(share: float | None) -> str:
    return f"{_percent(share or 0.0)} of 100"


def _range(ends: Sequence[float]) -> str:
    return f"{_percent(ends[0])} to {_percent(ends[1])}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f}" if share >= 0.0995 else f"{share * 100:.2g}"


def drift(found: Drift) -> str:
    """Say whether those who ask are like the strangers, and what to do next."""
    if found.probability is None:
        return (
            f"{counted(found.unknown, 'unknown answer')} and {counted(found.strangers, 'stranger')} beyond the"
            " threshold: 20 of each are needed to compare. Keep answers: sidx log on"
        )
    share = f"{found.near} of {found.unknown} unknown answers are nearer than half of the strangers"
    if not found.alarm:
        return f"{share}: those who ask look like the strangers."
    return (
        f"{share}: those who ask lie nearer to the enrolled than the strangers do. More of them are let in than was"
        " promised, or more of the enrolled are missed.\nGive strangers like those who ask:"
        " sidx calibrate --strangers FOLDER"
    )


def verification(found: Evidence) -> str:
    """Say what the threshold of a comparison one to one rests on, and what to do next."""
    target = percent(found.target_fpir)
    worth = f"{found.searches:,} comparisons with strangers, worth {found.effective:.0f} independent ones"
    if found.promised:
        return f"Of {worth}, {found.false_alarms} match; the target is {target}."
    return (
        f"{worth}: too few to promise {target}, so nobody is confirmed; about {found.missing} more are needed.\n"
        "Add strangers: sidx calibrate --strangers FOLDER. Or ask for less: --fmr 0.1"
    )


def percent(share: float | None) -> str:
    """Return a share as a percentage, a dash for none."""
    return "–" if share is None else f"{share * 100:.3g} %"


def counted(count: int, what: str) -> str:
    """Return a count with its noun: 1 stranger, 2 strangers, 3 identities."""
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"{count:,} {what if count == 1 else many}"


def interval(ends: Sequence[float]) -> str:
    """Return a 95 % interval of a share."""
    return f"{ends[0]:.3f} … {ends[1]:.3f}"


# -- thresholds -----------------------------------------------------------------------------------


def evidence(found: Evidence, enrolled: bool = True) -> str:
    """Say what a threshold rests on, and what to do next. `enrolled`: whether somebody is."""
    if found.source == "set":
        return _SET
    if not enrolled:
        return NOBODY
    if not found.searches:
        return (
            "There is no threshold yet: no stranger has been searched for, so nobody is named.\n"
            f"Give about {counted(found.missing, 'stranger')}: sidx calibrate --strangers FOLDER"
        )
    if found.unlike:
        return (
            "The strangers are not like those enrolled, who lie much nearer to each other: strangers like them would be"
            " let in more often than asked.\nGive strangers of the same kind: sidx calibrate --strangers FOLDER"
        )
    target, searched = percent(found.target_fpir), f"{_WHOSE[found.source]} ({_worth(found)})"
    if found.fitted:
        return (
            f"The threshold is that of a distribution fitted to {found.searches:,} {searched}, too few to"
            f" count: about {target} of strangers will be let in {_kept(found)}, and up to {percent(found.promise)}"
            " may be.\n"
            f"{_ADD.format(found.missing)}"
        )
    if found.missing:
        return (
            f"{found.false_alarms} of {found.searches} {searched} match, {target} on average as asked. The strangers"
            f" are less like those enrolled and would set a looser threshold.\n{_ADD.format(found.missing)}"
        )
    kept = _kept(found)
    return f"{found.false_alarms} of {found.searches:,} {searched} match; the target is {target} of strangers {kept}."


_ADD = "To promise the target, add about {} strangers like those who will ask: sidx calibrate --strangers FOLDER"


def _kept(found: Evidence) -> str:
    return "on average" if found.confidence is None else f"at most, in {found.confidence:.3g} of all galleries"


def _worth(found: Evidence) -> str:
    return f"worth {found.effective:,.0f} independent ones" if found.effective < found.searches else "all independent"


def change(before: Outlook, after: Outlook, dry_run: bool = False) -> str:
    """Say how an enrollment moves, or would move, the threshold and the misses; nothing where it did not."""
    if before.threshold is None or after.threshold is None or before.threshold == after.threshold:
        return ""
    verb = "would go" if dry_run else "went"
    said = f"The threshold {verb} from {before.threshold:.4g} to {after.threshold:.4g}"
    if after.mated:
        was, now = (percent(o.misses / o.mated if o.mated else None) for o in (before, after))
        said += f", FNIR from {was} to {now} ({after.misses} of {after.mated} mated searches)"
    return said + "."


def suspicion(pair: Suspicion) -> str:
    """Say what was set aside, why, and what to do."""
    near = f"{pair.distance:.3f}"
    if pair.cause == "stranger who was enrolled":
        return (
            f"Stranger {pair.first!r} looks like {pair.second!r} ({near}): set aside. If they are one: sidx strangers"
            f" remove {shell(pair.first)}"
        )
    aside = f"{counted(pair.searches, 'search')} set aside"
    if pair.cause == "same person twice":
        return (
            f"{pair.first!r} and {pair.second!r} look like one ({near}): {aside}. If they are: sidx identities merge"
            f" {shell(pair.second)} {shell(pair.first)}"
        )
    return (
        f"Sample {pair.samples[0]} of {pair.first!r} looks like {pair.second!r} ({near}): {aside}. Look:"
        f" sidx samples show {pair.samples[0]}  If it is: sidx samples move {pair.samples[0]} --to {shell(pair.second)}"
    )


def shell(name: str) -> str:
    """Return a name as one word of a command."""
    from shlex import quote

    return quote(name)


def plan(planned: Plan) -> str:
    """Say what a plan was computed from, and what it promises."""
    base = f"From {planned.probes} searches by {planned.held_out} held-out identities"
    if not planned.extrapolated:
        return f"{base}, without sampling."
    return (
        f"{base}: fewer than the {planned.identities} planned, so this is a guess beyond what they can show.\n"
        f"Count on an FPIR of {percent(planned.fpir_interval[1])} and an FNIR of {percent(planned.fnir_interval[1])}:"
        " the upper ends of the intervals. More held-out identities would say more."
    )


def capacity(result: Capacity) -> str:
    """Say how many identities a tower holds."""
    limit, asked = percent(result.fnir_limit), f"At an FPIR of {percent(result.target_fpir)} this tower"
    if not result.identities:
        return f"{asked} misses more than {limit} of mated searches even with two enrolled."
    more = "at least " if result.at_least else ""
    return f"{asked} holds {more}{counted(result.identities, 'identity')} before {limit} of mated searches miss." + (
        " More held-out identities would show more." if result.at_least else ""
    )


# -- answers --------------------------------------------------------------------------------------


def decision(answer: Decision, learned: Threshold | None) -> tuple[str, ...]:
    """Return the reasons of an answer, a sentence each. `learned` None: the caller set the threshold."""
    if answer.verdict == "no_subject":
        return ("Nobody is to be seen in the picture: no face, or all of it is of one grey. Is the lens covered?",)
    if not answer.candidates:
        return (NOBODY,)
    first, tau = answer.candidates[0], answer.threshold
    near = f"{first.identity!r}, at distance {first.distance:.4f}"
    said = [f"The nearest enrolled identity is {near} (0: the same, 2: opposite)."]
    if answer.evidence.fusion != "best":
        said[0] += f" Distances to an identity's templates are fused by their {answer.evidence.fusion}."
    if tau is None:
        said.append("There is no threshold yet: no stranger has been searched for, so nobody is named.")
        return tuple(said)
    side = "within" if first.distance <= tau else "beyond"
    said.append(f"That is {side} the threshold, {tau:.4f}.")
    if learned is not None and learned.evidence.shift and learned.tau is not None:
        where = "nearer to it" if tau < learned.tau else "farther from it"
        said.append(f"For this probe it moved by {tau - learned.tau:+.4f}: strangers lie {where} than to most probes.")
    said.append(_SET if learned is None else _promise(learned))
    if len(answer.candidates) > 1 and answer.margin is not None:
        second = answer.candidates[1]
        said.append(f"The next is {second.identity!r}, at {second.distance:.4f}: {answer.margin:.4f} farther away.")
        if answer.evidence.margin:
            close = Rule(tau, answer.evidence.margin).is_ambiguous(first.distance, second.distance)
            said.append(
                f"Two identities within the threshold are ambiguous if their distances differ by less than"
                f" {answer.evidence.margin:.4f}; these {'do' if close else 'do not'}."
            )
    if answer.expected_false_alarms is not None:
        said.append(f"A stranger would have about {answer.expected_false_alarms:.3g} enrolled identities this near.")
    if answer.probability is not None and answer.verdict == "match":
        said.append(
            f"If half of all probes were of strangers, {first.identity!r} would be right with probability"
            f" {answer.probability:.2f}."
        )
    if answer.verdict == "unknown" and first.distance <= tau:
        said.append("Too few strangers support this threshold, so a strict answer names nobody.")
    verdicts = {
        "match": f"Verdict: match, {first.identity!r}.",
        "unknown": "Verdict: unknown, nobody who is enrolled.",
        "ambiguous": "Verdict: ambiguous, it may be either. Take another picture.",
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
    if "spearman" in figures:
        return "What it never saw: " + graded(figures)
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
        + _whitened(figures.get("closed_form", {}))
    )


def _whitened(tried: dict[str, Any]) -> str:
    """Say that a whitening was put behind a tower, and what it changed."""
    if not tried.get("kept"):
        return ""
    before, after = tried["without"], tried["with"]
    return f" A whitening behind it is proved to help: FNIR was {before['fnir']:.3f}, it is {after['fnir']:.3f}."


def graded(figures: dict[str, Any]) -> str:
    """Say how well distances rank pairs by their graded labels (`graded.graded_figures`)."""
    if figures["spearman"] is None:
        return f"{counted(figures['pairs'], 'pair')}: too few, or all alike, to rank them."
    return (
        f"{counted(figures['pairs'], 'pair')} of {counted(figures['items'], 'item')}: rank correlation of label and"
        f" nearness {figures['spearman']:.3f} ({interval(figures['spearman_interval'])})."
    )


def mapped(figures: dict[str, Any]) -> str:
    """Say what a map from one embedder's vectors to another's costs (`switching.measured`)."""
    same = " Each probe was the very picture that is enrolled; --names would take others." * figures["same_picture"]
    kind = f"{'An' if figures['kind'][0] == 'o' else 'A'} {figures['kind']}"
    way = "falls" if figures["loss"] < 0 else "rises"
    return (
        f"{kind} map of {counted(figures['pairs'], 'pair')}, measured among"
        f" {counted(figures['identities'], 'identity')} that it was not learned from:"
        f" FNIR {way} by {abs(figures['loss']):.3f}.{same}"
    )


def compared(report: dict[str, Any], names: tuple[str, str] | None = None) -> str:
    """Say what a comparison (`comparison.compare`) rests on, and its verdict; `names` where neither is a candidate."""
    champion, challenger = names or ("the old tower", "the new tower")
    stays = "" if names else " The old tower stays."
    figures = report["challenger"]
    if not figures["searches"]:
        return "No enrolled identity with two pictures was held out: the two towers cannot be compared."
    missing = report.get("identities_missing", 0)
    if missing:
        return (
            f"Compared on {counted(figures['identities'], 'unseen identity')}: no proof is possible, {missing} more"
            f" with two pictures are needed.{stays}"
        )
    said = f"Compared on {counted(figures['identities'], 'unseen identity')} ({figures['searches']} searches): "
    said += {
        "better": f"{challenger} is better{f' than {champion}' if names else ''}.",
        "worse": f"{challenger} is worse{f' than {champion}' if names else ''}.{stays}",
        "no proof": f"the difference is too small to be sure.{stays}",
    }[report["verdict"]]
    seen = report.get("champion_has_seen", 0)
    return said + (f" {seen} more were left out, since an earlier tower was trained on them." if seen else "")


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
