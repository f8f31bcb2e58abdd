"""What becomes of who is enrolled: mended, undone, corrected, purged, taken along."""
