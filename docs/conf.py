"""Sphinx builds the site: `make docs`. Warnings are errors."""

import siamese_index

project = "siamese-index"
author = "the siamese-index authors"
release = siamese_index.__version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"siamese-index {release}"
exclude_patterns = ["_build"]
suppress_warnings = ["misc.highlighting_failure"]
nitpicky = True
