"""The files of a Hugging Face folder, read with distrust: JSON, and safetensors in one piece or several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from taskmask.errors import CheckpointError, did_you_mean
from taskmask.system import json_input

BUFFERS = (".position_ids", ".token_type_ids", ".inv_freq")
"""Endings of the names of what old versions saved beside the weights."""


class WeightFiles:
    """The weights of a folder: which there are, and their content when asked for.

    Names of old versions are understood: LayerNorm.gamma and beta, and those of an encoder saved alone, without its
    prefix.

    Args:
        folder: the folder.
        prefix: what the names of the encoder's weights begin with.
        copies: {name of a copy: name of what it copies}; the copy stands in where only it was saved.

    Attributes:
        places: {name: (the open file, name there, path)}.

    Raises:
        CheckpointError: there are no weights, or they cannot be read.
    """

    def __init__(self, folder: Path, prefix: str, copies: Mapping[str, str]):
        self.folder = folder
        self.taken: set[str] = set()
        self.places: dict[str, tuple[Any, str, Path]] = {}
        safetensors = import_safetensors()
        for file in self._files():
            try:
                with open(file, "rb") as stream:  # by its number: safetensors takes no path that is not UTF-8
                    opened = safetensors.safe_open(f"/dev/fd/{stream.fileno()}", framework="pt")
            except Exception as error:
                refuse(file, f"cannot be read as safetensors: {error}", fix="copy or download the file again")
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                self.places[_modern(name)] = (opened, name, file)
        if not any(name.startswith(prefix) for name in self.places):
            self.places = {prefix + name: place for name, place in self.places.items()}
        for copy, original in copies.items():
            if original not in self.places and copy in self.places:
                self.places[original] = self.places.pop(copy)

    def _files(self) -> list[Path]:
        whole, index = self.folder / "model.safetensors", self.folder / "model.safetensors.index.json"
        if whole.is_file():
            return [whole]
        if not index.is_file():
            other = sorted(file.name for file in self.folder.glob("*_model*") if file.suffix in (".bin", ".h5"))
            fix = "open it with transformers (from_pretrained) and save_pretrained, which writes safetensors"
            found = f"holds {other[0]}, which may run programs when it is read" if other else "has no weights"
            refuse(self.folder, found, "model.safetensors or model.safetensors.index.json", fix if other else "")
        entries = read_json(index).get("weight_map")
        names = set(entries.values()) if isinstance(entries, dict) and all_texts(entries.values()) else set()
        if not names:
            refuse(index, "names no files", 'weight_map: {"name of a weight": "file"}')
        for name in sorted(names):
            if not name.endswith(".safetensors") or "\0" in name or "\\" in name or Path(name).name != name:
                refuse(index, f"names the file {short(name)}", "names of .safetensors files beside it")
            if not (self.folder / name).is_file():
                refuse(index, f"names {short(name)}, which is not there", fix="copy or download the file")
        return [self.folder / name for name in sorted(names)]

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Returns a weight of this shape, in fp32."""
        if name not in self.places:
            refuse(self.folder, f"weight {name} is missing", fix=did_you_mean(name, self.places))
        opened, there, file = self.places[name]
        view = opened.get_slice(there)
        if tuple(view.get_shape()) != tuple(shape):
            refuse(file, f"weight {there} has shape {tuple(view.get_shape())}", f"{tuple(shape)} by config.json")
        if view.get_dtype() not in ("F32", "F16", "BF16"):
            refuse(file, f"weight {there} is {view.get_dtype()}", "F32, F16 or BF16; quantised weights are not read")
        self.taken.add(name)
        tensor = opened.get_tensor(there).to(torch.float32, copy=True)  # the file may change, the weights may not
        if not tensor.isfinite().all():
            refuse(file, f"weight {there} has numbers that are not finite", fix="take another copy of the model")
        return tensor

    def left_out(self) -> list[str]:
        """The names in the folder of what was not taken, without buffers."""
        left = [name for known, (_, name, _) in self.places.items() if known not in self.taken]
        return sorted(name for name in left if not name.endswith(BUFFERS))


def read_json(file: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: there is none, or it is too large.
    """
    try:
        if not file.is_file():
            refuse(file, "is not there", fix="give the folder that save_pretrained wrote")
        content = json_input.read_json(file)
    except OSError as error:
        refuse(file, f"cannot be read: {error.strerror}", fix="check the path and its permissions")
    except ValueError as error:
        refuse(file, f"is not valid JSON: {error}", fix="copy or download the file again")
    if not isinstance(content, dict):
        refuse(file, f"is {short(content)}", "an object with settings")
    return content


def import_safetensors() -> Any:
    """Returns the package safetensors, which is needed here only."""
    try:
        import safetensors.torch
    except ImportError:
        refuse("package safetensors", "is not installed", fix="pip install taskmask[hf]")
    return safetensors


def all_texts(values: Iterable[Any]) -> bool:
    """Whether all values are texts."""
    return all(isinstance(value, str) for value in values)


def short(value: Any) -> str:
    """Returns a value as it is shown in messages."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def refuse(where: str | Path, what: str, expected: str = "", fix: str = "") -> NoReturn:
    """Raises a CheckpointError of these parts."""
    raise CheckpointError(what, where=str(where), expected=expected, fix=fix)


def _modern(name: str) -> str:
    """The name of today for one from the time of TensorFlow."""
    if name.endswith("LayerNorm.gamma"):
        return name.removesuffix("gamma") + "weight"
    return name.removesuffix("beta") + "bias" if name.endswith("LayerNorm.beta") else name
