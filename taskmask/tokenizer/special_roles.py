"""Which tokens of a `tokenizer.json` begin and end a text, pad, mask and stand for what is unknown.

The file itself says what stands around a text (its post-processor) and what is unknown (its model). Which tokens mask
and pad stands in `tokenizer_config.json` only; where names do not tell it, it is kept as `"roles"` in the entry of the
token in `added_tokens`, which other readers of the file ignore.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from taskmask.tokenizer.backend import BOS, EOS, MASK, PAD, SPECIALS, UNK

NAMES = {
    PAD: ("[PAD]", PAD),
    BOS: ("[CLS]", "<cls>", BOS, "<bos>"),
    EOS: ("[SEP]", "<sep>", EOS, "<eos>"),
    UNK: ("[UNK]", UNK),
    MASK: ("[MASK]", MASK),
}
_KEY = "roles"
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def find_roles(
    ids: Mapping[str, int], specials: Iterable[int], own: Mapping[str, int], stated: Mapping[str, int]
) -> dict[str, int]:
    """Finds the token of each role. A token has one role, but for what stands on both sides of a text.

    Args:
        ids: of all tokens.
        specials: ids of those that are special; of several names they come first.
        own: role -> id, what stands around a text and for what is unknown. Only a special in brackets counts more.
        stated: role -> id, as `with_roles` has written it. It counts most, but for what is unknown.

    Returns:
        Role -> id, for the roles that a token has.
    """
    roles: dict[str, int] = {}
    special = set(specials)
    for role in (BOS, EOS, MASK, UNK, PAD):
        names = sorted((ids[name] for name in NAMES[role] if name in ids), key=lambda id: id not in special)
        bracketed = [id for id in (ids.get(NAMES[role][0]),) if id in special]
        order = [stated.get(role), *bracketed, own.get(role), *names]
        taken = set(roles.values())
        if role == UNK:
            order.insert(0, own.get(role))
        if role == EOS and EOS in own and own[EOS] == own.get(BOS):
            taken.clear()
        found = next((id for id in order if id is not None and id not in taken), None)
        if found is not None:
            roles[role] = found
    return roles


def stated_roles(content: bytes) -> dict[str, str]:
    """Role -> token, as `with_roles` has written them into a valid `tokenizer.json`."""
    if f'"{_KEY}"'.encode() not in content:
        return {}
    entries = json.loads(content).get("added_tokens") or []
    return {role: entry["content"] for entry in entries for role in entry.get(_KEY) or () if role in SPECIALS}


def with_roles(content: bytes, roles: Mapping[str, str], ids: Mapping[str, int]) -> bytes:
    """Writes the roles of tokens into a `tokenizer.json`.

    Args:
        content: of the file, which is valid.
        roles: role -> token.
        ids: of all tokens; a token that is not yet an added one becomes a special one, as transformers does it.
    """
    tokenizer = json.loads(content)
    entries: dict[str, dict[str, Any]] = {entry["content"]: entry for entry in tokenizer.get("added_tokens") or []}
    for role, token in roles.items():
        entry = entries.setdefault(token, {"id": ids[token], "content": token, **_FLAGS})
        entry[_KEY] = [*entry.get(_KEY, []), role]
    ordered = sorted(entries.values(), key=lambda entry: entry["id"])
    return json.dumps({**tokenizer, "added_tokens": ordered}, ensure_ascii=False).encode()


def without_roles(content: bytes) -> bytes:
    """The `tokenizer.json` as it was before `with_roles`, but for white space."""
    if not stated_roles(content):
        return content
    tokenizer = json.loads(content)
    for entry in tokenizer["added_tokens"]:
        entry.pop(_KEY, None)
    return json.dumps(tokenizer, ensure_ascii=False).encode()
