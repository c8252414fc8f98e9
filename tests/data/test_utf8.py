"""Mending text that is not UTF-8: line by line, so that it does not matter where the text is cut."""

from hypothesis import given
from hypothesis import strategies as st

from taskmask.preprocess.utf8 import mend

BYTES = st.lists(st.sampled_from([b"\n", b"a", b"\xff", b"\xe6", b"\x88\x91", b"\xc0", b"\xed\xa0\x80", "é".encode()]))


def is_good(line):
    try:
        return line.decode() is not None
    except UnicodeDecodeError:
        return False


@given(text=BYTES.map(b"".join))
def test_mend(text):
    lines = text.split(b"\n")
    bad = [number for number, line in enumerate(lines) if not is_good(line)]
    replaced, number, (line, byte) = mend(text, "replace")
    assert replaced == text.decode(errors="replace").encode() and number == len(bad)
    assert mend(text, "skip") == (b"\n".join(filter(is_good, lines)), number, (line, byte))
    assert mend(text, "skip", keep_empty=True)[0] == b"\n".join(one if is_good(one) else b"" for one in lines)
    if bad:
        assert line == bad[0] + 1 and is_good(lines[bad[0]][: byte - 1].rstrip(b"\xe6\xed\xa0")) and byte >= 1
    else:
        assert (replaced, line, byte) == (text, 0, 0)
