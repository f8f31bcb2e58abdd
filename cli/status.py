"""`sidx status`: a gallery at one glance."""

from __future__ import annotations

from siamese_index import Gallery, describe

from .options import DEFAULT_GALLERY, GalleryOption, JsonOption
from .output import facts, note

EXAMPLE = "sidx status -g people.gallery"


def status(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = None) -> None:
    """Show at one glance who is enrolled, with which tower, and what the threshold promises."""
    with Gallery.open(gallery) as opened, opened.reading() as state:
        row, outlook, learned = state.active, state.outlook(), state.threshold(None)
        identities = state.store.identities()
        shown = {
            "gallery": str(gallery),
            "revision": state.revision[0],
            "identities": len(identities),
            "samples": sum(identity.samples for identity in identities),
            "tower": row.sha256[:12],
            "takes": "pictures" if row.has_network else f"vectors of {row.dimension} numbers",
            "threshold": learned.tau,
            "target_fpir": state.settings.target_fpir,
            "promised": learned.evidence.promised,
            "missing_strangers": learned.evidence.missing,
            "misses": outlook.misses,
            "mated_searches": outlook.mated,
            "suspects": len(outlook.suspects),
            "strict": state.settings.strict,
            "log": state.settings.log,
        }
    facts(shown, as_json)
    note(describe.evidence(learned.evidence, enrolled=bool(identities)))
