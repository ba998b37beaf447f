"""The picture beside a model: looked at before Qt is given it, and as small as the panel needs it."""

import struct
from pathlib import Path

import qt

from .words import _

WIDTH = 300  # pixels: the panel can be as narrow as Slicer makes it at first
MAX_BYTES = 2_000_000
MAX_SIDE = 4000
SIGNATURE, HEADER_BYTES = b"\x89PNG\r\n\x1a\n", 24  # of a PNG file, to the end of its width and height


class PictureLabel:
    """A label that shows a picture file, which is read again only where it has changed."""

    def __init__(self, label) -> None:
        self.label = label
        self._shown: tuple | None = None
        self._fault = ""
        label.setVisible(False)

    def show(self, path: Path | None) -> str:
        """Show this picture, or none; returns a line on what is wrong with it, or nothing."""
        stamp = _stamp(path)
        if stamp != self._shown:
            self._shown, self._fault = stamp, ""
            pixmap = read_picture(path) if path is not None else None
            if pixmap is not None:
                self.label.setPixmap(pixmap)
            elif path is not None:
                self._fault = _("Its {file} cannot be shown: it is not a small PNG picture.").format(file=path.name)
        self.label.setVisible(path is not None and not self._fault)
        return self._fault


def _stamp(path: Path | None) -> tuple | None:
    """By what a file is known: another one has another."""
    if path is None:
        return None
    try:
        status = path.stat()
        return path, status.st_mtime_ns, status.st_size
    except OSError:
        return path, 0, 0


def read_picture(path: Path):
    """The picture in a PNG file, at most WIDTH wide; None where the file is none, or larger than a small picture."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        with open(path, "rb") as file:
            start = file.read(HEADER_BYTES)
    except OSError:
        return None
    if len(start) < HEADER_BYTES or not start.startswith(SIGNATURE):
        return None
    if max(struct.unpack(">II", start[16:])) > MAX_SIDE:  # it would be made as large before it is made small
        return None
    pixmap = qt.QPixmap(str(path))
    if pixmap.isNull():
        return None
    return pixmap.scaledToWidth(WIDTH, qt.Qt.SmoothTransformation) if pixmap.width() > WIDTH else pixmap
