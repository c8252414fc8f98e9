"""Lines that are not UTF-8: an error with their place, or mended, or left out."""

from __future__ import annotations

from taskmask.errors import DataError

ON_BAD_UTF8 = ("stop", "replace", "skip")


def decode(text: bytes, name: str, first_line: int) -> str:
    """Decodes strictly.

    Args:
        text: bytes of a file, from the start of a line.
        name: of the file.
        first_line: number of the first line.

    Raises:
        DataError: with file, line and byte.
    """
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        line = first_line + text.count(b"\n", 0, error.start)
        byte = error.start - text.rfind(b"\n", 0, error.start)
        raise DataError(
            f"byte 0x{text[error.start]:02x} is not UTF-8",
            where=f"{name}:{line}:{byte}",
            expected="UTF-8 text",
            fix="convert the file, e.g. with iconv -f latin1 -t utf-8, or see --on-bad-utf8",
        ) from error


def mend(text: bytes, action: str, keep_empty: bool = False) -> tuple[bytes, int, tuple[int, int]]:
    """Replaces what is not UTF-8 by U+FFFD, or leaves out the lines that have it, each line by itself.

    Args:
        text: whole lines.
        action: "replace" or "skip".
        keep_empty: "skip" leaves an empty line, so that the numbers of the lines after it stay right.

    Returns:
        (the text, number of lines concerned, the first place as line and byte, both from 1).
    """
    try:
        text.decode()
        return text, 0, (0, 0)
    except UnicodeDecodeError:
        pass
    lines: list[bytes] = []
    places: list[tuple[int, int]] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        try:
            line.decode()
            lines.append(line)
        except UnicodeDecodeError as error:
            places.append((number, error.start + 1))
            if action == "replace":
                lines.append(line.decode(errors="replace").encode())
            elif keep_empty:
                lines.append(b"")
    return b"\n".join(lines), len(places), places[0]
