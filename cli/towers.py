"""`sidx towers`: the towers of a gallery, and those that come and go: import, add, export, promote, rollback."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from siamese_index import BadInput, Gallery, TowerFile, describe

from .options import DEFAULT_GALLERY, FpirOption, GalleryOption, JsonOption, Place, quoted
from .output import AsJson, complain, emit, facts, for_a_person, note, progress, table, tell_left_out

commands = typer.Typer(
    help="Towers: list, show, promote, rollback, switch, optimize, adapt, add, export; import a network.",
    no_args_is_help=True,
)
SWITCH_EXAMPLE = "sidx towers switch --pairs old.npy new.npy -g people.gallery"
TowerArgument = Annotated[str, typer.Argument(help="A tower's id, or the beginning of it.")]


@commands.command("list", epilog="Example:  sidx towers list -g people.gallery")
def list_towers(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """List the gallery's towers in the order they came."""
    with Gallery.open(gallery) as opened:
        rows = [
            {
                "tower": row.sha256[:12] if row.has_network else row.sha256,
                "active": active,
                "made": row.card.made or None,
                "identities": len(row.card.training.identities),
                "rank1": row.card.held_out.get("rank1"),
                "fnir": row.card.held_out.get("fnir"),
                "verdict": (row.report or {}).get("verdict"),
            }
            for row, active in opened.towers()
        ]
    emit(rows, as_json)


@commands.command("show", epilog="Example:  sidx towers show -g people.gallery")
def show_tower(
    tower: Annotated[
        str | None, typer.Argument(help="A tower's id, or its beginning; default: the active one.")
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Show a tower's card, and the figures it was judged by."""
    with Gallery.open(gallery) as opened:
        row, active = opened.tower_record(tower)
    if not for_a_person(as_json):
        facts({"tower": row.sha256, "active": active, **row.card.to_dict(), "comparison": row.report}, as_json)
        return
    training = row.card.training
    facts(
        {
            "tower": row.sha256,
            "active": active,
            "made": row.card.made or None,
            "input": row.card.input.to_dict(),
            "dimension": row.card.dimension,
            "recipe": (training.recipe or {}).get("name"),
            "learned_from": f"{len(training.identities):,} identities, {training.samples:,} samples",
            "held_out": f"{len(training.held_out):,} identities, {len(training.chose):,} of which chose the moment",
            "steps": f"{training.steps:,}, kept from step {training.kept_from_step:,}. {training.ended}",
            "parameters": training.parameters or None,
            "optimized": row.card.optimized,
            "imported": row.card.imported,
            "adapted": row.card.adapted,
        },
        as_json,
    )
    typer.echo(describe.held_out(row.card.held_out))
    if row.report and "challenger" in row.report:
        typer.echo(describe.compared(row.report))
    note("All that is known of it:  sidx towers show --json")


@commands.command("adapt", epilog="Example:  sidx towers adapt --data faces -g people.gallery")
def adapt(
    data: Annotated[
        str | None, typer.Option(help="More identities to learn from and to judge by, as for train.")
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Make a candidate of the active tower by what your own pictures of one identity differ by: in seconds.

    Half of the identities are learned from, the others judge. With too few that have two pictures it learns by what a
    picture differs by from itself, turned, moved and lit otherwise.
    """
    from siamese_index.analysis import adaptation
    from siamese_index.samples import sources

    items = sources.items(data) if data is not None else None
    with Gallery.open(gallery) as opened, progress("embedding", len(items or ())) as tick:
        result = adaptation.adapt(opened, items, tick)
    tell_left_out(items.left_out if items is not None else ())
    for refusal in result.refused:
        complain(f"sidx: {refusal.error}")
    print_comparison(result.tower, result.comparison, as_json)
    told = describe.counted(result.learned_from, "identity")
    if result.by == "views":
        told = f"{result.learned_from:,} pictures, each turned, moved and lit otherwise"
    note(f"It learned from {told}; one place cannot speak for another.")
    if result.better:
        note(f"It is stored as a candidate. Swap it in:  sidx towers promote {result.tower[:12]} -g {quoted(gallery)}")
    else:
        note("It is stored as a candidate, and not proved to be better: the active tower stays.")


@commands.command("import", epilog="Example:  sidx towers import net.onnx -o net.tower --data probes")
def import_network(
    network: Annotated[Path, typer.Argument(help="A network for pictures, as .onnx.", readable=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The tower file to write.", readable=False)],
    preset: Annotated[
        str | None, typer.Option(help="What it expects: raw 0..255, unit 0..1, pm1 -1..1, or imagenet.  [default: raw]")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="It gets (pixel - mean) / std: one number, or A,B,C.")] = None,
    std: Annotated[str | None, typer.Option(help="One number, or A,B,C, in the order of its own channels.")] = None,
    order: Annotated[str, typer.Option(help="Of its colour channels: rgb or bgr.")] = "rgb",
    frame: Annotated[str, typer.Option(help="What it sees of a picture: whole, strokes, or face.")] = "whole",
    face_model: Annotated[
        Path | None, typer.Option(help="For --frame face: the detector, a YuNet as .onnx.", readable=False)
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="The value that is the vector, by its name in the network.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="For a network that takes any: 112, or 160x120 (width x height).")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Measure all presets with these identities, as for train.")] = None,
    fpir: FpirOption = None,
    as_json: JsonOption = None,
) -> None:
    """Make a tower of a network that somebody else trained. It is held against the original."""
    from siamese_index.files import refuse_to_replace
    from siamese_index.samples import images
    from siamese_index.towers import foreign
    from siamese_index.towers.composing import Numbers, Preparation

    refuse_to_replace(out, "tower")
    if preset is not None and (mean is not None or std is not None):
        raise BadInput("--preset says mean and std itself.", "Give it, or --mean and --std.")
    if preset not in (None, *foreign.PRESETS):
        raise BadInput(f"There is no preset {preset!r}.", f"There are {', '.join(foreign.PRESETS)}.")
    if data is None and fpir is not None:
        raise BadInput("--fpir is for measuring.", "It needs --data DATA.")
    told = _numbers("--mean", mean, (0.0,)), _numbers("--std", std, (1.0,))
    chosen = foreign.PRESETS[preset] if preset else told
    detector = images.read(face_model) if face_model is not None else None

    def as_tower(numbers: tuple[Numbers, Numbers]) -> foreign.Imported:
        preparation = Preparation(order, *numbers)
        return foreign.import_network(
            network, preparation, frame=frame, output=output, size=_size(size), detector=detector
        )

    made = as_tower(chosen)
    for word in made.words:
        note(word)
    file = made.file
    if data is not None:
        others = {
            name: p for name, p in foreign.PRESETS.items() if p != chosen and len(p[0]) in (1, file.card.input.shape[2])
        }
        towers = {preset or ("raw" if chosen == foreign.PRESETS["raw"] else "as told"): file}
        for name, numbers in others.items():
            with contextlib.suppress(BadInput):  # a network may give nothing for some
                towers[name] = as_tower(numbers).file
        file = _measured(towers, data, 0.01 if fpir is None else fpir, as_json)
    file.write(out)
    if data is None:
        facts({"tower": file.id, "file": str(out), "input": file.card.input.to_dict(), "dimension": file.card.dimension,
               "largest_difference": made.largest_difference}, as_json)  # fmt: skip
    note(f"Next:  sidx init --tower {out} -g people.gallery")


def _measured(towers: dict[str, TowerFile], data: str, target: float, as_json: AsJson) -> TowerFile:
    """Print the figures of towers beside each other; return the first with its own."""
    from siamese_index.analysis import tower_trial
    from siamese_index.samples import sources

    items = sources.items(data)
    rows: list[dict[str, Any]] = []
    found: list[TowerFile] = []
    for name, tower in towers.items():
        with progress(f"measuring {name}", len(items)) as tick:
            with_figures, refused = tower_trial.measured(tower, items, target, tick)
        if not found:
            for refusal in refused:
                complain(f"sidx: {refusal.error}")
        found.append(with_figures)
        figures = with_figures.card.held_out
        keys = ("rank1", "eer", "fnir", "fnir_interval", "target_fpir", "searches", "identities")
        rows.append({"preset": name, "written": not rows, **{key: figures[key] for key in keys}})
    emit(rows, as_json, ["preset", "rank1", "eer", "fnir", "searches", "identities"])
    tell_left_out(items.left_out)
    best = min(rows, key=lambda row: (row["fnir"], row["eer"], -row["rank1"]))
    if best is not rows[0]:
        note(
            f"With {best['preset']} the same network misses fewer."
            f" If that is what it was trained with: --preset {best['preset']}"
        )
    return found[0]


def _numbers(option: str, text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    if text is None:
        return default
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"{option} {text!r} is no number.", "Such as 127.5, or 123.7,116.3,103.5.") from None


def _size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of 112 or WIDTHxHEIGHT."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise BadInput(f"--size {text!r} is no size.", "Such as 112, or 160x120 (width x height).")
    return int(parts[-1]), int(parts[0])


@commands.command("add", epilog="Example:  sidx towers add second.tower -g people.gallery")
def add_tower(
    file: Annotated[Path, typer.Argument(help="A tower file.", readable=False)],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Store a tower that was made elsewhere as a candidate. The active one goes on answering."""
    with Gallery.open(gallery) as opened:
        tower = opened.add_tower(file)
        active = tower == opened.tower.id
    if active:
        note(f"Tower {tower[:12]} is the active one already.")
        return
    note(f"Tower {tower[:12]} is a candidate. Swap it in:  sidx towers promote {tower[:12]} -g {quoted(gallery)}")


@commands.command("export", epilog="Example:  sidx towers export -o faces.tower -g people.gallery")
def export_tower(
    tower: Annotated[str | None, typer.Argument(help="A tower's id, or its beginning; else the active one.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.", readable=False)] = None,
    to: Annotated[str, typer.Option("--to", help="tower, or its network alone: onnx, keras or litert.")] = "tower",
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Write a tower of the gallery to a file: whole, without its strangers, or its network alone."""
    from siamese_index.files import replace_file

    if to not in ("tower", "onnx", "keras", "litert"):
        raise BadInput(f"A tower cannot be exported to {to!r}.", "There are tower, onnx, keras and litert.")
    with Gallery.open(gallery) as opened:
        file = opened.tower_file(tower)
    target = out or Path(f"{file.id[:12]}.{'tflite' if to == 'litert' else to}")
    if to == "tower":
        file.write(target)
    elif to != "onnx":
        from siamese_index.training.convert import convert

        replace_file(target, convert(file, to), "network")
    else:
        replace_file(target, file.onnx, "network")
    note(f"Wrote {target}.")


@commands.command("promote", epilog="Example:  sidx towers promote CANDIDATE -g people.gallery")
def promote(tower: TowerArgument, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Swap a candidate in. Searches go on with the active tower until one transaction switches."""
    promote_tower(gallery, tower)


@commands.command("switch", epilog=f"Example:  {SWITCH_EXAMPLE}")
def switch(
    tower: Annotated[
        Path | None, typer.Argument(help="The new embedder's tower file; none: one outside.", readable=False)
    ] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="OLD.npy NEW.npy: vectors of the same pictures by both, row by row.", readable=False),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="Whose each row of --pairs is: a line each, or a .csv.", readable=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help="Pictures to embed by both, as for train.")] = None,
    most_loss: Annotated[
        float, typer.Option(help="Do not switch if more of the searches would miss.", min=0, max=1)
    ] = 0.05,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure, and change nothing.")] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Go over to another embedder although pictures were not kept: a map is learned from vectors of the same pictures.

    What it costs is measured on pairs that it was not learned from. Back:  sidx towers rollback
    """
    from siamese_index.analysis import switching
    from siamese_index.samples import sources, tables

    if (pairs is None and tower is None) or (data is not None and (pairs is not None or tower is None)):
        raise BadInput("Vectors by both are needed.", remedy="--pairs OLD.npy NEW.npy, or a TOWER (and --data)")
    if names is not None and pairs is None:
        raise BadInput("--names is for --pairs.", remedy="Leave it out.")
    file = TowerFile.read(tower) if tower is not None else None
    items = sources.items(data) if data is not None else None
    with Gallery.open(gallery) as opened:
        row, _ = opened.tower_record()
        target = opened.threshold().evidence.target_fpir or 0.01
        if pairs is not None:
            rows = [sources.vectors(each)[1] for each in pairs]
            found = switching.given(rows[0], rows[1], None if names is None else tables.names(names))
        else:
            with progress("embedding", 2 * (len(items or ()) + sum(s.kept for s in opened.samples()))) as tick:
                found = switching.by_both(opened, cast("TowerFile", file), items, tick)
        result = switching.measured(found, row.dimension, target, enrolled={each.name for each in opened.identities()})
        if file is not None and found.new.shape[1] != file.card.dimension:
            raise BadInput(f"The tower gives {file.card.dimension} numbers; the new vectors have {found.new.shape[1]}.")
        _print_switch(result.figures, as_json)
        tell_left_out(items.left_out if items is not None else ())
        if dry_run:
            return
        if result.loss > most_loss:
            note(
                f"Not switched: it loses more than {most_loss:g}. If that is good enough: --most-loss {result.loss:.2f}"
            )
            raise typer.Exit(10)
        made = opened.switch(
            file if file is not None else found.new.shape[1], result.map, report=result.figures, given=result.strangers
        )
    note(f"Embedder {made[:12]} is active. Back:  sidx towers rollback -g {quoted(gallery)}")


def _print_switch(figures: dict[str, Any], as_json: AsJson) -> None:
    """Print what a map costs."""
    if not for_a_person(as_json):
        facts(figures, as_json)
    else:
        told = {"before": "the old embedder", "anew": "everything embedded anew", "mapped": "mapped vectors"}
        rows = [{"with": told[key], **figures[key]} for key in told if figures[key]]
        emit(rows, as_json, ["with", "rank1", "fnir", "searches"])
    note(describe.mapped(figures))


@commands.command("compare", epilog="Example:  sidx towers compare FIRST SECOND probes -g people.gallery")
def compare_towers(
    first: Annotated[str, typer.Argument(help="A tower of sidx towers list: its id, or the beginning of it.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    probes: Annotated[str, typer.Argument(help="Pictures with whose they are, as for train: two of each and more.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Compare two towers on the same pictures, of people whom neither learned from. Exit 3 when some cannot be read."""
    from siamese_index.analysis.two_towers import compare_towers as compared
    from siamese_index.samples import sources

    items = sources.items(probes)
    with Gallery.open(gallery) as opened, progress("embedding", 2 * len(items)) as tick:
        report, refused = compared(opened, first, second, items, tick)
        ids = [opened.tower_record(tower)[0].sha256 for tower in (first, second)]
    print_comparison(ids[1], report, as_json, (ids[0][:12], ids[1][:12]))
    tell_left_out([*items.left_out, *(str(each.error).replace("\n", " ") for each in refused)])
    if refused:
        raise typer.Exit(3)


@commands.command("rollback", epilog="Example:  sidx towers rollback -g people.gallery")
def rollback(gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Go back to the tower before the active one. Nothing enrolled since is lost."""
    with Gallery.open(gallery) as opened, progress("embedding", len(opened.samples())) as tick:
        tower = opened.rollback(tick)
    note(f"Tower {tower[:12]} is active again.")


@commands.command("optimize", epilog="Example:  sidx towers optimize --data probes -g people.gallery")
def optimize(
    data: Annotated[str | None, typer.Option(help="More pictures to measure it with, as for train.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = None,
) -> None:
    """Make an 8-bit candidate of the active tower. It is kept only if it is faster here, and as good."""
    from siamese_index.training.quantize import optimize as optimized

    result = optimized(gallery, data)
    print_comparison(result.tower, result.comparison, as_json)
    speed, size = result.comparison["speed"], result.comparison["size"]
    note(f"A batch takes {speed:.2f} times as long, and the tower is {size:.2f} times as large.")
    if result.accepted:
        note(f"It is stored as a candidate. Swap it in:  sidx towers promote {result.tower[:12]} -g {quoted(gallery)}")
    else:
        note(f"It is not kept: {result.why}.")
        raise typer.Exit(10)


def print_comparison(tower: str, report: dict[str, Any], as_json: AsJson, names: tuple[str, str] | None = None) -> None:
    """Print a candidate's figures beside the active tower's."""
    if not for_a_person(as_json):
        facts({"tower": tower, **report}, as_json)
    else:
        table(describe.comparison(report))
    note(describe.compared(report, names))


def promote_tower(gallery: Place, tower: str) -> None:
    with Gallery.open(gallery) as opened, progress("embedding", len(opened.samples())) as tick:
        embedded = opened.promote(tower, tick)
    note(f"Tower {tower[:12]} is active; {embedded} samples were embedded.")
    note(f"If that was wrong:  sidx towers rollback -g {quoted(gallery)}")
