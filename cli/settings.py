"""`sidx settings`: what a gallery was told, and which environment variables count: list, set."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from siamese_index import BadInput, Gallery, Missing

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption, Place, is_given
from .output import emit, note

commands = typer.Typer(help="Settings of a gallery and of the program: list, set.", no_args_is_help=True)

# name: (what it is, how it is changed)
OF_A_GALLERY = {
    "fpir": ("share of strangers that may be taken for somebody", "sidx settings set fpir 0.01"),
    "fusion": (
        "how several pictures of an identity make one distance",
        "sidx settings set fusion best|mean|best-two|auto",
    ),
    "shift": ("whether the threshold moves with the probe", "sidx settings set shift on|off"),
    "confidence": (
        "how surely the target is kept; none: on average",
        "sidx settings set confidence 0.95|none",
    ),
    "strict": ("whether matches that too few strangers support are unknown", "sidx settings set strict on|off"),
    "log": ("whether answers are kept", "sidx settings set log on|off"),
    "keep-images": ("whether pictures are kept", "when it is made: sidx init --no-keep-images"),
}
OF_THE_ENVIRONMENT = {  # of the program as installed; docs/settings.md names those of tests and training, too
    "SIDX_GALLERY": "the gallery when --gallery is not given; else ./main.gallery",
    "SIDX_DEVICE": "auto, cpu or cuda: where networks run, when --device is not given; cuda wants onnxruntime-gpu",
    "KERAS_HOME": "where keras:NAME looks for data sets; else ~/.keras",
    "ORT_DISABLE_TELEMETRY": "1 unless you set it: ONNX Runtime counts nothing",
    "OPENBLAS_THREAD_TIMEOUT": "4 unless you set it: idle threads of numpy sleep at once",
    "OPENCV_LOG_LEVEL": "SILENT unless you set it: what OpenCV prints about pictures",
    "KERAS_BACKEND": "tensorflow, whatever you set, while a tower is trained",
    "TF_CPP_MIN_LOG_LEVEL": "3, whatever you set, while a tower is trained: TensorFlow prints errors only",
    "PGPASSWORD": "the password of a gallery on a PostgreSQL server; or ~/.pgpass",
    "OPENCV_IO_MAX_IMAGE_PIXELS": "64000000 unless you set it: larger pictures are refused in any case",
}


@commands.command("list", epilog="Example:  sidx settings list -g people.gallery")
def list_settings(context: typer.Context, gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """List every setting with its value, where it lives, and how to change it."""
    rows = _of(gallery, is_given(context, "gallery"))
    rows += [
        {
            "setting": name,
            "value": _shown(name),
            "where": "environment",
            "what": what,
            "change": f"export {name}=…",
        }
        for name, what in OF_THE_ENVIRONMENT.items()
    ]
    emit(rows, as_json, ["setting", "value", "what", "change"])


def _of(gallery: Place, named: bool) -> list[dict[str, Any]]:
    try:
        with Gallery.open(gallery) as opened, opened.reading() as state:
            found = state.settings
    except Missing as missing:
        if named:
            raise
        note(
            f"{missing.what} Only environment variables are listed. For those of a gallery: sidx settings list -g FILE"
        )
        return []
    values = {
        "fpir": found.target_fpir,
        "fusion": found.fusion,
        "shift": found.shift,
        "confidence": found.confidence,
        "strict": found.strict,
        "log": found.log,
        "keep-images": found.keep_pictures,
    }
    return [
        {"setting": name, "value": values[name], "where": str(gallery), "what": what, "change": how}
        for name, (what, how) in OF_A_GALLERY.items()
    ]


def _shown(name: str) -> str | None:
    """Return the value of an environment variable; not a password."""
    value = os.environ.get(name)
    return "set" if value and "PASSWORD" in name else value


@commands.command("set", epilog="Example:  sidx settings set fpir 0.02 -g people.gallery")
def set_setting(
    name: Annotated[str, typer.Argument(help="fpir, fusion, shift, confidence, strict or log.")],
    value: Annotated[str, typer.Argument(help="Its new value.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
) -> None:
    """Change a setting of a gallery."""
    with Gallery.open(gallery) as opened:
        if name == "fpir":
            opened.calibrate(fpir=_share(value))
        elif name == "fusion":
            chosen: Any = value  # what it may be is checked where it is set
            opened.calibrate(fusion=chosen)
        elif name == "confidence":
            opened.calibrate(confidence=0 if value == "none" else _share(value, name))
        elif name in ("log", "strict", "shift"):
            if value not in ("on", "off"):
                raise BadInput(f"{name} cannot be {value!r}.", "Expected on or off.")
            if name == "shift":
                opened.calibrate(shift=value == "on")
            else:
                (opened.log if name == "log" else opened.set_strict)(value == "on")
        else:
            settable = ", ".join(n for n, (_, how) in OF_A_GALLERY.items() if how.startswith("sidx"))
            raise BadInput(f"{name!r} cannot be set here.", f"Expected {settable}.", "See: sidx settings list")
        with opened.reading() as state:
            now = {"fpir": state.settings.target_fpir, "fusion": state.settings.fusion}.get(name, value)
    note(f"{name} of {gallery} is now {now}.")


def _share(value: str, name: str = "fpir") -> float:
    try:
        return float(value)
    except ValueError:
        raise BadInput(f"{name} cannot be {value!r}.", "Expected a number between 0 and 1, such as 0.01.") from None
