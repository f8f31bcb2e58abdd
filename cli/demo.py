"""The whole story on pictures that it draws itself: learn, enroll, identify, refuse strangers, retrain."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from siamese_index import BadInput, Decision, Gallery, describe
from siamese_index.describe import percent
from siamese_index.samples import framing

from .output import note, progress, table
from .training_progress import TrainingProgress

EXAMPLE = "sidx demo --folder demo --steps 15"
LEARNED, ENROLLED, STRANGERS = range(0, 24), range(100, 148), range(200, 248)
BYSTANDERS = range(300, 360)  # strangers that set the threshold: as many as an FPIR of 5 % takes


def demo(
    folder: Annotated[Path, typer.Option(help="Where its pictures, tower and gallery go.", readable=False)] = Path(
        "demo"
    ),
    steps: Annotated[
        int, typer.Option(help="Batches for the first tower; retraining takes four times as many.", min=10)
    ] = 150,
) -> None:
    """Show everything once, in under three minutes, and leave a gallery to play with."""
    from siamese_index.analysis.evaluation import Evaluation, evaluate
    from siamese_index.samples.sources import items
    from siamese_index.training import retrain, train
    from siamese_index.training.glyphs import draw

    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"{folder}: this folder is not empty.", remedy="Remove it, or choose another: --folder NAME")
    began = time.monotonic()
    gallery = folder / "glyphs.gallery"

    _heading("1. Draw: make-believe characters, each redrawn by unsteady hands")
    pictures = draw(folder / "learn-from", LEARNED, range(0, 8))
    first = draw(folder / "enroll", ENROLLED, range(0, 1))
    more = draw(folder / "enroll-later", ENROLLED, range(1, 5))
    probes = draw(folder / "probes", ENROLLED, range(10, 13))
    draw(folder / "probes", STRANGERS, range(10, 13))
    bystanders = draw(folder / "strangers", BYSTANDERS, range(0, 1))
    note(f"{len(LEARNED)} to learn from, {len(ENROLLED)} to enroll, {len(STRANGERS)} strangers; see {folder}/.")

    _heading("2. Learn: a Siamese tower, from pictures of none of those to be enrolled")
    tower = train(pictures, TrainingProgress(), out=folder / "glyphs.tower", steps=steps)
    note(describe.held_out(tower.card.held_out))

    _heading("3. Enroll: one picture each")
    with Gallery.create(gallery, tower, fpir=0.05) as opened:
        listed = items(first)
        with progress("enrolling", len(listed)) as tick:
            done = opened.enroll_many(listed, tick)
        note(f"{len(done.enrolled)} enrolled.")
        opened.calibrate(strangers_given=items(bystanders))
        note(f"{len(BYSTANDERS)} strangers, who are nobody's probes, set the threshold: at most 5 % may match.")

        _heading("4. Identify: pictures by other hands, and strangers")
        shown = [probes / f"glyph-{i:03d}" / "hand-10.png" for i in (100, 101, 102, 103, 200, 201)]
        answers = [opened.identify(path) for path in shown]
        table([_answer(answer) for answer in answers])
        note(describe.evidence(answers[0].evidence))
        sheet = _sheet(folder, answers)
        note(f"The same to look at: {sheet}")
        results: dict[str, Evaluation] = {}
        results["one picture each"] = evaluate(opened, items(probes))

        _heading("5. Enroll four more pictures of each, and retrain on what is enrolled")
        opened.enroll_many(items(more))
        results["five pictures each"] = evaluate(opened, items(probes))
    made = retrain(gallery, pictures, TrainingProgress(), steps=4 * steps)
    table(describe.comparison(made.comparison))
    note(describe.compared(made.comparison))

    _heading("6. Swap the retrained tower in")
    with Gallery.open(gallery) as opened:
        embedded = opened.promote(made.tower)
        note(f"{embedded} samples embedded anew; one transaction switched.")
        results["five, retrained tower"] = evaluate(opened, items(probes))

    _heading("Before and after")
    table(
        [
            {
                "gallery": name,
                "rank-1": f"{percent(r.rank1.share)} of {r.rank1.of}",
                "FNIR": f"{percent(r.fnir.share)} of {r.fnir.of}",
                "strangers let in": f"{r.fpir.count} of {r.fpir.of}",
                "threshold": r.threshold,
            }
            for name, r in results.items()
        ]
    )
    note("The retrained tower has seen four fifths of these identities; step 5 compares on those it has not.")
    note(f"\nAll of this took {time.monotonic() - began:.0f} s. Go on playing with {gallery}:")
    note(f"  sidx identify {folder}/probes/glyph-110 -g {gallery}")
    note(f"  sidx calibrate --fpir 0.1 -g {gallery}")
    note(f"  sidx towers rollback -g {gallery}")


def _heading(text: str) -> None:
    typer.echo(f"\n{text}")


def _answer(answer: Decision) -> dict[str, object]:
    path = Path(answer.probe)
    return {
        "probe": f"{path.parent.name}/{path.name}",
        "verdict": answer.verdict,
        "identity": answer.identity,
        "distance": answer.distance,
        "threshold": answer.threshold,
    }


def _sheet(folder: Path, answers: list[Decision]) -> Path:
    """Write a picture: each probe beside the enrolled pictures of its two nearest identities."""
    import cv2
    import numpy as np

    from siamese_index.files import replace_file
    from siamese_index.samples import images

    colours = {"match": (60, 160, 60), "unknown": (150, 150, 150), "ambiguous": (230, 150, 30)}
    rows = []
    for answer in answers:
        cells = [("probe", Path(answer.probe), colours[answer.verdict])]
        for candidate in answer.candidates[:2]:
            path = folder / "enroll" / candidate.identity / "hand-00.png"
            named = candidate.identity == answer.identity
            cells.append((f"{candidate.distance:.2f}", path, colours["match"] if named else (255, 255, 255)))
        tiles = []
        for text, path, colour in cells:
            tile = np.full((150, 140, 3), 255, np.uint8)
            tile[2:134, 4:136] = colour
            tile[6:130, 8:132] = framing.load(path.read_bytes(), 124, 124, 3)
            cv2.putText(tile, text, (8, 147), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
            tiles.append(tile)
        answered = np.full((150, 300, 3), 255, np.uint8)
        says = answer.identity or answer.verdict
        cv2.putText(answered, says, (12, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.8, colours[answer.verdict], 2, cv2.LINE_AA)
        rows.append(np.hstack([*tiles, answered]))
    out = folder / "answers.png"
    replace_file(out, images.encode(np.vstack(rows)))
    return out
