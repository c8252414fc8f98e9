"""The file of a vocabulary, and the checksum that a run keeps beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from taskmask.errors import DataError
from taskmask.system.files import LARGE, read_bounded
from taskmask.tokenizer.backend import CHECKSUM


def read_vocabulary(path: Path) -> bytes:
    """Reads a `.model` file or a `tokenizer.json`, and compares it with its checksum, if there is one.

    Raises:
        DataError: there is none, or its checksum differs.
    """
    try:
        content, sums = read_bounded(path, LARGE), path.with_name(path.name + CHECKSUM)
        known = read_bounded(sums)[:64].decode(errors="replace") if sums.exists() else ""
    except OSError as error:
        raise DataError(
            f"cannot read the vocabulary: {error.strerror}",
            where=str(path),
            expected="a SentencePiece .model file, a tokenizer.json, or a folder of a dataset or of Hugging Face",
        ) from error
    if known and known != hashlib.sha256(content).hexdigest():
        fix = "copy both files again, or take the vocabulary of the dataset that the run was trained on"
        raise DataError("is damaged, or was replaced", where=str(path), expected=f"checksum of {sums.name}", fix=fix)
    return content
