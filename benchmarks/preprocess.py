"""Text to a dataset: taskmask-preprocess beside datasets.map as run_mlm uses it, in MB/s, and the memory it takes.

All use the same pieces of one SentencePiece vocabulary, for unigram and for BPE, and start with a text file. Every
measurement is a fresh process kept on as many cores as it may use; importing packages is left out. The contenders:
"run_mlm" tokenises and groups into blocks of 128 with all the columns that the script writes, "lean" writes the ids
alone, "engine" is SentencePiece encoding lines in memory and writing nothing: what cannot be beaten with it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common

BLOCK = 128
PEERS = {"run_mlm": "datasets, as run_mlm", "lean": "datasets, ids alone", "engine": "SentencePiece alone"}


def main() -> None:
    """Measures what was asked for and prints the tables."""
    args = make_parser().parse_args()
    if args.child:
        return child(json.loads(args.child))
    from inputs import base_lines, write_text

    lines, notes = base_lines(args.text), []
    speed = common.Table(f"Text to dataset, {args.megabytes:g} MB of text", "MB/s per core")
    with tempfile.TemporaryDirectory() as folder:
        common.quiet(folder, 1)
        text = Path(folder, "text.txt")
        size = write_text(text, lines, args.megabytes)
        for kind in args.kinds:
            notes.append(prepare(args, kind, lines, Path(folder)))
            for processes in args.processes:
                compare(speed, args, kind, processes, size, Path(folder))
        memory = [memory_row(args, megabytes, lines, Path(folder)) for megabytes in args.memory_megabytes]
    header = ("text, MB", *(f"{named(processes)}, MB" for processes in args.processes))
    title = (
        f"Peak memory of taskmask-preprocess, {args.kinds[0]}: proportional share (PSS) of all its processes together."
    )
    shown = f"{title}\n\n{common.markdown(header, memory)}" if memory else ""
    common.report(speed, "\n".join(notes), *([shown] if shown else []))


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--text", metavar="FILE", help="lines of text (default: what ships with Python)")
    parser.add_argument("--megabytes", type=float, default=20.0, help="text to measure the speed on; lines repeat")
    parser.add_argument("--kinds", nargs="+", choices=("unigram", "bpe"), default=["unigram", "bpe"])
    parser.add_argument("--vocab-size", type=common.positive, default=16000)
    parser.add_argument("--processes", nargs="+", type=common.positive, default=[1, 2])
    parser.add_argument("--contenders", nargs="*", choices=PEERS, default=list(PEERS), help="beside taskmask")
    parser.add_argument("--memory-megabytes", nargs="*", type=float, default=[10.0, 500.0], metavar="MB")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def prepare(args: argparse.Namespace, kind: str, lines: list[bytes], folder: Path) -> str:
    """Trains the vocabulary and gives the peer the same one; returns a note on how far they agree."""
    from inputs import hf_tokenizer_of

    from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

    some = lines[:: max(1, len(lines) // 20000)]
    vocab = Vocabulary(train_vocabulary(some, args.vocab_size, kind))
    (folder / f"{kind}.model").write_bytes(vocab.model_bytes)
    if common.missing(args, "tokenizers"):
        return f"{kind}: no peer to compare tokens with."
    tokenizer = hf_tokenizer_of(vocab, kind)
    tokenizer.save(str(folder / f"{kind}.json"))
    some = some[:2000]
    theirs = tokenizer.encode_batch([line.decode() for line in some])
    pairs = zip(vocab.encode(some), theirs, strict=True)
    same = sum(ours.tolist() == encoded.ids[:-1] for ours, encoded in pairs)
    return f"{kind}: the peer has the same pieces; it cuts {same / len(some):.2%} of {len(some)} lines in the same way."


def compare(table: common.Table, args: argparse.Namespace, kind: str, processes: int, size: int, folder: Path) -> None:
    """Measures all contenders with one kind of vocabulary and one number of processes."""
    if processes > common.CORES:
        table.rows.append((f"{kind}, {named(processes)}", f"skipped: {common.CORES} cores", "", "", "", ""))
        return
    absent = common.missing(args, "transformers", "datasets")
    reasons = {name: "" if name == "engine" else absent for name in args.contenders}
    spec = {"kind": kind, "processes": processes, "folder": str(folder)}

    def measurement(name: str) -> Callable[[], float]:
        return lambda: size / 1e6 / processes / common.child(__file__, {**spec, "name": name})["seconds"]

    todo = ["taskmask", *(name for name, reason in reasons.items() if not reason)]
    values = common.interleave({name: measurement(name) for name in todo}, args.repeats)
    what = f"{kind}, {named(processes)}"
    for name, reason in reasons.items() or {"": "not asked for"}.items():
        table.add(what, values["taskmask"], PEERS.get(name, "none"), values.get(name, reason))


def named(processes: int) -> str:
    """Returns "1 process" or "2 processes"."""
    return f"{processes} process{'es' if processes > 1 else ''}"


def child(spec: dict[str, Any]) -> None:
    """Encodes the text once in this process and prints {"seconds": time from text to dataset}."""
    common.pin(spec["processes"])
    work = {"taskmask": taskmask, "engine": engine}.get(spec["name"], peer)
    with tempfile.TemporaryDirectory(dir=spec["folder"]) as out:
        print(json.dumps({"seconds": work(spec, Path(spec["folder"]), Path(out))}))


def arguments(text: Path, model: Path, processes: int, out: Path) -> list[str]:
    """The arguments of taskmask-preprocess."""
    paths = ["--train", str(text), "--vocab", str(model), "--out", str(out / "bin")]
    return [*paths, "--documents", "line", "--workers", str(processes)]


def taskmask(spec: dict[str, Any], folder: Path, out: Path) -> float:
    """Runs taskmask-preprocess in this process."""
    import taskmask.preprocess.pipeline  # noqa: F401 - so that it is not timed
    from taskmask_cli import preprocess

    words = arguments(folder / "text.txt", folder / f"{spec['kind']}.model", spec["processes"], out)
    return common.seconds_of(lambda: preprocess.main(words))


def engine(spec: dict[str, Any], folder: Path, out: Path) -> float:
    """Encodes the lines with SentencePiece, in threads."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{spec['kind']}.model"))
    lines = (folder / "text.txt").read_bytes().splitlines()
    return common.seconds_of(lambda: processor.encode(lines, out_type="numpy", num_threads=spec["processes"]))


def peer(spec: dict[str, Any], folder: Path, out: Path) -> float:
    """Tokenises and groups with datasets.map, from the text file to arrow files."""
    import datasets
    from inputs import fast_tokenizer

    tokenizer = fast_tokenizer(folder / f"{spec['kind']}.json")
    processes = spec["processes"] if spec["processes"] > 1 else None
    lean = {"return_attention_mask": False, "return_token_type_ids": False} if spec["name"] == "lean" else {}

    def tokenize(examples: dict[str, list]) -> Any:
        return tokenizer(examples["text"], return_special_tokens_mask=not lean, **lean)

    def group(examples: dict[str, list]) -> dict[str, list]:
        joined = {name: [value for row in rows for value in row] for name, rows in examples.items()}
        total = len(joined["input_ids"]) // BLOCK * BLOCK
        return {name: [row[at : at + BLOCK] for at in range(0, total, BLOCK)] for name, row in joined.items()}

    def all_of_it() -> None:
        text = str(folder / "text.txt")
        rows = datasets.load_dataset("text", data_files=text, split="train", cache_dir=str(out))
        rows = rows.map(tokenize, batched=True, num_proc=processes, remove_columns=["text"])
        rows.map(group, batched=True, num_proc=processes)

    return common.seconds_of(all_of_it)


def memory_row(args: argparse.Namespace, megabytes: float, lines: list[bytes], folder: Path) -> tuple[str, ...]:
    """Returns a row of the table of memory: the peak with each number of processes."""
    from inputs import write_text

    text = folder / "memory.txt"
    write_text(text, lines, megabytes)
    peaks = []
    for processes in args.processes:
        print(f"memory at {megabytes:g} MB, {named(processes)}", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder) as out:
            words = arguments(text, folder / f"{args.kinds[0]}.model", processes, Path(out))
            peaks.append(peak_memory([*common.cli("preprocess"), *words]))
    return (f"{megabytes:g}", *(f"{peak / 1e6:.0f}" for peak in peaks))


def peak_memory(command: list[str]) -> int:
    """Runs a command; returns the largest memory, in bytes, of its processes together, looked at 50 times a second."""
    process, peak = subprocess.Popen(command, stdout=subprocess.DEVNULL), 0
    while process.poll() is None:
        peak = max(peak, sum(memory_of(number) for number in family_of(process.pid)))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return peak


def family_of(number: int) -> list[int]:
    """Returns a process and all that descend from it."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    family = [number]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def memory_of(number: int) -> int:
    """Returns the memory of a process in bytes, pages that it shares with others in parts; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
