"""What the tests of ingestion share: datasets made of a few lines, and their rows."""

from itertools import pairwise

from taskmask.data.dataset import Dataset
from taskmask.preprocess.pipeline import encode_files
from taskmask.preprocess.readers import find_sources
from taskmask.preprocess.schema import Fields


class Maker:
    """Maker(folder, vocabulary)({"train1.txt": content, "valid.txt": content}) -> the dataset, in `folder / "out"`."""

    def __init__(self, folder, vocabulary):
        self.folder, self.vocabulary = folder, vocabulary

    def __call__(
        self, files, workers=1, documents="auto", input_format=None, on_bad_utf8="stop", label_names=None, **fields
    ):
        paths: dict[str, list[str]] = {}
        for name, content in files.items():
            path = self.folder / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            paths.setdefault(name.split(".")[0].rstrip("0123456789"), []).append(str(path))
        sources = find_sources(
            paths, Fields(**fields), input_format=input_format, documents=documents, on_bad_utf8=on_bad_utf8
        )
        out = self.folder / "out"
        self.summary = encode_files(sources, self.vocabulary, out, workers, overwrite=True, label_names=label_names)
        return Dataset.open(self.folder / "out")


def rows_of(dataset, column, split="train"):
    """The values of a ragged or aligned column, an array a row."""
    part = dataset.split(split)
    values = part.values(column)
    return [values[start:stop] for start, stop in pairwise(part.offsets(column))]


def content_of(folder):
    """Every file in a folder: name -> bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
