"""The seal of a checkpoint: no changed byte of the file goes unnoticed, in the frame of the archive either."""

import io
import random
import zipfile

import pytest
import torch

from taskmask.checkpoints.archive import SealedWriter, check_archive
from taskmask.errors import CheckpointError

STATE = {"format": 1, "model": {"a": torch.arange(5.0), "b": torch.ones(2, 3)}, "text": "x"}


@pytest.fixture
def sealed(tmp_path):
    with open(tmp_path / "a.pt", "wb") as stream:
        writer = SealedWriter(stream)
        torch.save(STATE, writer)
        writer.seal()
    return tmp_path / "a.pt"


def test_a_sealed_archive_is_what_torch_writes_and_reads(sealed):
    plain = io.BytesIO()
    torch.save(STATE, plain)
    content = sealed.read_bytes()
    size = len(plain.getvalue())
    assert content[: size - 2] == plain.getvalue()[:-2]  # up to the length of the comment
    assert content[size:].startswith(b"taskmask crc32 ") and len(content) == size + 23
    check_archive(sealed)
    read = torch.load(sealed, weights_only=True)
    assert torch.equal(read["model"]["b"], STATE["model"]["b"]) and read["text"] == "x"


@pytest.mark.fault(66)
def test_every_flipped_bit_before_the_seal_is_found(sealed):
    """Of each byte one bit, and all eight of the frame's last 700 bytes: names, offsets, sizes."""
    content = sealed.read_bytes()
    chance = random.Random(1)
    for place in range(len(content) - 23):
        bits = range(8) if place > len(content) - 700 else [chance.randrange(8)]
        for bit in bits:
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            sealed.write_bytes(damaged)
            with pytest.raises((CheckpointError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)):
                check_archive(sealed)


@pytest.mark.fault(66)
def test_a_flipped_bit_of_the_seal_is_found_or_harmless(sealed):
    content = sealed.read_bytes()
    for place in range(len(content) - 23, len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            sealed.write_bytes(damaged)
            try:
                check_archive(sealed)
            except CheckpointError as error:
                assert "is damaged" in str(error)
            else:
                assert torch.equal(torch.load(sealed, weights_only=True)["model"]["a"], STATE["model"]["a"])


def test_an_archive_of_an_earlier_version_has_no_seal(tmp_path):
    torch.save(STATE, tmp_path / "old.pt")
    check_archive(tmp_path / "old.pt")
    content = bytearray((tmp_path / "old.pt").read_bytes())
    content[content.index(b"\0\0\x80\x3f")] ^= 1
    (tmp_path / "old.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum of"):
        check_archive(tmp_path / "old.pt")
