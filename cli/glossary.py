"""`sidx glossary`: the words that results use."""

from __future__ import annotations

from siamese_index.describe import GLOSSARY

from .options import JsonOption
from .output import emit

EXAMPLE = "sidx glossary"


def glossary(as_json: JsonOption = None) -> None:
    """Say what FPIR, FNIR and the other words of results mean."""
    emit([{"word": word, "meaning": meaning} for word, meaning in GLOSSARY.items()], as_json)
