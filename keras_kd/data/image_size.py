"""How large an image file says that it is, read from its head: what takes kilobytes on disk may fill the memory."""

import os
import struct
from typing import BinaryIO

GREATEST_PIXELS = 2**26
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's markers before a size
_ALONE = {0x01, *range(0xD0, 0xD8)}  # and those with nothing behind them


def refuse_huge(path: str | os.PathLike) -> None:
    """Refuses an image of more than 2²⁶ pixels, which is 8192 x 8192.

    Args:
        path: a PNG, JPEG, GIF or BMP. What is none of these is left to whoever decodes it.

    Raises:
        ValueError: if it says that it has more. The text says how many, without the path.
        OSError: if the file cannot be opened.
    """
    with open(path, "rb") as file:
        height, width = _size(file)
    if height * width > GREATEST_PIXELS:
        raise ValueError(f"it has {height * width:,} pixels, and {GREATEST_PIXELS:,} are read at the most")


def _size(file: BinaryIO) -> tuple[int, int]:
    head = file.read(26)
    if head[:2] == b"\xff\xd8":
        return _size_of_jpeg(file)
    if len(head) < 26:
        return 0, 0
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack_from(">II", head, 16)
    elif head[:3] == b"GIF":
        width, height = struct.unpack_from("<HH", head, 6)
    elif head[:2] == b"BM":
        width, height = map(abs, struct.unpack_from("<ii", head, 18))  # a height below 0 counts from the top
    else:
        return 0, 0
    return height, width


def _size_of_jpeg(file: BinaryIO) -> tuple[int, int]:
    """The greatest size that a segment before the pixels tells."""
    greatest = 0, 0
    file.seek(2)
    while (head := file.read(2))[:1] == b"\xff" and len(head) == 2 and head[1] != 0xDA:
        if head[1] == 0xFF:  # filling before a marker
            file.seek(-1, os.SEEK_CUR)
        elif head[1] not in _ALONE:
            segment = file.read(7)
            if len(segment) < 7:
                break
            length, _, height, width = struct.unpack(">HBHH", segment)
            if head[1] in _FRAMES:
                greatest = max(greatest, (height, width), key=lambda size: size[0] * size[1])
            file.seek(length - 7, os.SEEK_CUR)
    return greatest
