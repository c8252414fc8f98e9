"""The file format of checkpoints: the zip archive that torch writes, sealed by a checksum of the whole file.

The seal is the comment at the end of the archive, which other readers ignore. It covers every byte before it, so that
damage to the frame of the archive is found, too: torch reads record names and offsets from there unchecked.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from taskmask.errors import CheckpointError
from taskmask.system.files import LARGE

_SEAL = re.compile(rb"taskmask crc32 ([0-9a-f]{8})")
_SIZE = len(b"taskmask crc32 00000000")
_CHUNK = 1 << 22


class SealedWriter:
    """Passes on what torch writes and adds the seal at the end.

    Args:
        stream: the file.
    """

    def __init__(self, stream: BinaryIO):
        self._stream, self._crc32, self._held = stream, 0, b""
        self.name = stream.name

    def write(self, data: Any) -> int:
        """Writes bytes; holds back the last two, the length of the archive's comment."""
        view = memoryview(data).cast("B")
        if len(view) < 2:
            self._held += bytes(view)
            self._pass_on(self._held[:-2])
            self._held = self._held[-2:]
        else:
            self._pass_on(self._held)
            self._pass_on(view[:-2])
            self._held = bytes(view[-2:])
        return len(view)

    def flush(self) -> None:
        """Flushes the file."""
        self._stream.flush()

    def seal(self) -> None:
        """Writes the seal; the archive must be finished."""
        self._pass_on(struct.pack("<H", _SIZE))
        self._stream.write(b"taskmask crc32 %08x" % self._crc32)

    def _pass_on(self, data: Any) -> None:
        self._crc32 = zlib.crc32(data, self._crc32)
        self._stream.write(data)


class _Bounded(io.FileIO):
    """A file of which no more than `LARGE` bytes can be read at once: the index of an archive is never that large."""

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        """Reads bytes.

        Raises:
            zipfile.BadZipFile: so many are asked for.
        """
        left = os.fstat(self.fileno()).st_size - self.tell()
        if min(left, left if size is None or size < 0 else size) > LARGE:
            raise zipfile.BadZipFile("its index is too large")
        return super().read(-1 if size is None else size) or b""


def check_archive(file: Path) -> None:
    """Checks an archive before torch reads it: stored records alone, no strange names, and the seal.

    An archive without a seal, of an earlier version, has the checksums of its records compared instead.

    Raises:
        CheckpointError: the file is damaged, or is not an archive that torch writes.
        zipfile.BadZipFile: it is not an archive.
    """
    damaged = "use another checkpoint of the run"
    with _Bounded(file) as stream, zipfile.ZipFile(stream) as archive:
        records = archive.infolist()
        names = [record.filename for record in records]
        pickles = [record.file_size for record in records if record.filename.endswith(".pkl")]
        odd = [name for name in names if name.startswith("/") or {"..", "constants.pkl"} & {*name.split("/")}]
        packed = [record.filename for record in records if record.compress_type != zipfile.ZIP_STORED]
        too_large = sum(r.file_size for r in records) > file.stat().st_size or max(pickles, default=0) > LARGE
        if odd or packed or too_large or len(set(names)) < len(names):
            raise CheckpointError("is not an archive that torch writes", where=str(file), fix="do not use it")
        seal = _SEAL.fullmatch(archive.comment)
        if not seal and not _ends_without_comment(file):
            raise CheckpointError("is damaged: its end is cut off or changed", where=str(file), fix=damaged)
        if not seal and (broken := archive.testzip()):
            raise CheckpointError(f"is damaged: checksum of {broken} differs", where=str(file), fix=damaged)
    if seal and _crc32_of(file, file.stat().st_size - _SIZE) != int(seal[1], 16):
        raise CheckpointError("is damaged: its checksum differs", where=str(file), fix=damaged)


def _ends_without_comment(file: Path) -> bool:
    """Returns whether the last field of the archive, the length of its comment, is there and 0."""
    with open(file, "rb") as stream:
        stream.seek(-2, 2)
        return stream.read() == b"\0\0"


def _crc32_of(file: Path, size: int) -> int:
    """Returns the crc32 of the first `size` bytes of a file."""
    crc32 = 0
    with open(file, "rb") as stream:
        while size and (chunk := stream.read(min(size, _CHUNK))):
            crc32 = zlib.crc32(chunk, crc32)
            size -= len(chunk)
    return crc32
