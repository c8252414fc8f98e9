"""Tag schemes: how the labels of words spell entities. One reading covers every scheme in use.

A tag is a letter and a type (`B-PER`, `b_per`), a type and a letter (`PER-B`), or a letter alone (`B`). The letters:

- `B` is the first word of an entity; `I` and `M` are inside of it; `E` and `L` are its last word;
- `S`, `U` and `W` are an entity of one word; `O`, `o`, `_` and `-` are outside of entities.

No letter means two things, so the same reading serves IOB1, IOB2 (BIO), IOE1, IOE2, IOBES (BIOES), BILOU (BILUO), BMES
and BMEWO. Whether a dataset has entities at all is decided by all of its labels together, see `scheme_of`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

OUTSIDE, INSIDE, LAST, FIRST, ALONE = range(5)
_ROLES = {"B": FIRST, "I": INSIDE, "M": INSIDE, "E": LAST, "L": LAST, "S": ALONE, "U": ALONE, "W": ALONE}
OUTSIDE_TAGS = frozenset({"O", "o", "_", "-"})
_LETTER = f"[{''.join(_ROLES)}]"
_PREFIX = re.compile(rf"(?P<letter>{_LETTER})(?:[-_](?P<type>.*))?", re.IGNORECASE | re.DOTALL)
_SUFFIX = re.compile(rf"(?P<type>.+)[-_](?P<letter>{_LETTER})", re.IGNORECASE | re.DOTALL)
_OTHER_PREFIX = re.compile(r"(?P<letter>[^-_]+)[-_](?P<type>.+)", re.DOTALL)
_OTHER_SUFFIX = re.compile(r"(?P<type>.+)[-_](?P<letter>[^-_]+)", re.DOTALL)
_NAMES = (
    ("IO", "I"),
    ("IOB", "IB"),
    ("IOE", "IE"),
    ("IOBES", "IBES"),
    ("BILOU", "BILU"),
    ("BMES", "BMES"),
    ("BMEWO", "BMEW"),
)
Reading = dict[str, tuple[str, str]]  # tag -> its letter, upper case, and its type
_NOT_MEASURED = "entities are not measured: "
_NUMBERS = (
    "the labels are numbers; if they are tags of entities, name them: taskmask-preprocess --label-names O B-PER ..."
)


@dataclass(frozen=True)
class Scheme:
    """The reading of the labels of a column.

    Attributes:
        names: the labels.
        note: one sentence for the user: the scheme and its types, or why entities are not measured.
        types: names of the types; `""` is the type of a tag without one. Empty if the labels are not tags of entities.
        roles: of each label: OUTSIDE, INSIDE, LAST, FIRST or ALONE; int64 [labels].
        type_ids: of each label: the index of its type, -1 outside; int64 [labels].
    """

    names: tuple[str, ...]
    note: str
    types: tuple[str, ...] = ()
    roles: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    type_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def has_entities(self) -> bool:
        """Whether the labels are tags of entities."""
        return bool(self.types)

    @property
    def outside(self) -> frozenset[str]:
        """The labels that are outside of entities; of other labels the plain `O`."""
        if not self.has_entities:
            return frozenset({"O"})
        return frozenset(name for name, role in zip(self.names, self.roles, strict=True) if role == OUTSIDE)


def scheme_of(names: Sequence[str]) -> Scheme:
    """Finds the scheme of the labels of a column. Rules:

    1. Of prefixes and suffixes, the one that reads more labels counts; of equals, prefixes.
    2. If all labels are read, they are tags of entities if one of them is `B`, `I`, or an entity of one word with a
       type (`S-PER`). Suffixes need more: a type with two letters, one of them `B` or `I`.
    3. A label with an unknown prefix, before a type that others have or of one or two letters, ends the reading: its
       meaning is unknown, so entities are not measured.
    4. Other labels are outside of entities if they are fewer than the tags, and a type has two letters, one of them `B`
       or `I`. Else the labels are not tags of entities, as parts of speech are not.

    Args:
        names: all labels of the column, different ones.
    """
    names = tuple(names)
    if names and all(re.fullmatch(r"-?\d+", name) for name in names):
        return Scheme(names, _NOT_MEASURED + _NUMBERS)
    tags = [name for name in names if name not in OUTSIDE_TAGS]
    if not tags:
        return Scheme(names, f"{_NOT_MEASURED}no label is a tag of an entity")
    styles = [(_PREFIX, _OTHER_PREFIX, "prefix"), (_SUFFIX, _OTHER_SUFFIX, "suffix")]
    read, others, style = max((_read(tags, *style) for style in styles), key=lambda reading: len(reading[0]))
    unread = [name for name in tags if name not in read]
    unknown = _unknown(unread, {type for _, type in read.values()}, others, style) if read else ""
    if unknown:
        return Scheme(names, _NOT_MEASURED + unknown)
    if not _is_evidence(read, bool(unread) or style == "suffix") or 2 * len(unread) >= len(names):
        example = next(iter(unread or tags))
        return Scheme(names, f"{_NOT_MEASURED}labels such as {example!r} have no prefix of entities (B-, I-, S-, ...)")
    types = tuple(sorted({type for _, type in read.values()}))
    roles = [_ROLES[read[name][0]] if name in read else OUTSIDE for name in names]
    type_ids = [types.index(read[name][1]) if name in read else -1 for name in names]
    note = _described(read, types, unread, style)
    return Scheme(names, note, types, np.array(roles, np.int64), np.array(type_ids, np.int64))


def _read(
    tags: Sequence[str], form: re.Pattern[str], other: re.Pattern[str], style: str
) -> tuple[Reading, re.Pattern[str], str]:
    matches = ((tag, form.fullmatch(tag)) for tag in tags)
    return {tag: (found["letter"].upper(), found["type"] or "") for tag, found in matches if found}, other, style


def _unknown(unread: Sequence[str], types: Iterable[str], form: re.Pattern[str], style: str) -> str:
    """Names the first label with an unknown prefix (or suffix); empty if there is none."""
    for name in unread:
        found = form.fullmatch(name)
        if found and (found["type"] in types or (style == "prefix" and len(found["letter"]) <= 2)):
            return f"the {style} {found['letter']!r} of label {name!r} is unknown; known: O, {', '.join(_ROLES)}"
    return ""


def _is_evidence(read: Reading, is_strict: bool) -> bool:
    """Whether the tags that are read can be told from other labels that look like them."""
    if is_strict:
        letters: dict[str, set[str]] = {}
        for letter, type in read.values():
            letters.setdefault(type, set()).add(letter)
        return any(type and len(found) > 1 and found & {"B", "I"} for type, found in letters.items())
    return any(letter in "BI" or (type and letter in "SUW") for letter, type in read.values())


def _described(read: Reading, types: Sequence[str], unread: Sequence[str], style: str) -> str:
    letters = {letter for letter, _ in read.values()}
    name = next((name for name, known in _NAMES if letters <= set(known)), f"mixed ({', '.join(sorted(letters))})")
    parts = [f"entities: {name}{', written as suffixes' if style == 'suffix' else ''}"]
    if any(types):
        shown = [type or repr(type) for type in types]
        more = f" and {len(types) - 10} more" if len(types) > 10 else ""
        parts.append(f"{len(types)} type{'s' if len(types) > 1 else ''} ({', '.join(shown[:10])}{more})")
    else:
        parts.append("without types")
    if unread:
        more = f" and {len(unread) - 5} more" if len(unread) > 5 else ""
        parts.append(f"outside of entities, besides O: {', '.join(map(repr, unread[:5]))}{more}")
    return "; ".join(parts)
