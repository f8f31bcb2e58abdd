"""Bytes and arrays to pixels: decoded, framed, measured; where samples and their identities come from."""

import os

# OpenCV reads both once, when it is imported.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "64000000")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

try:
    import cv2  # noqa: F401
except ImportError as error:  # its wheel leaves these two to the system
    raise ImportError(f"OpenCV cannot be loaded ({error}). On Debian: apt-get install libgl1 libglib2.0-0") from error
