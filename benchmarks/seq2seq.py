"""The encoder-decoder: taskmask beside the BART of transformers, training in tokens/s and generation in sentences/s.

Both have the same weights, see the same rows and take the same optimizer, in one process in which they take turns. The
texts that they generate are compared: they have to be the same.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import common

SHAPES = {
    "mini": dict(layers=2, width=256, heads=4, vocab=16000, rows=32, source=64, target=32),
    "base": dict(layers=6, width=768, heads=12, vocab=50265, rows=8, source=128, target=32),
    "toy": dict(layers=1, width=32, heads=2, vocab=100, rows=4, source=8, target=8),
}
PAD, BOS, EOS, DROPOUT, LR = 1, 0, 2, 0.1, 1e-4


def main() -> None:
    """Measures and prints the tables."""
    args = make_parser().parse_args()
    training = common.Table(f"Training, {args.threads} threads, fp32", "tokens/s, source and target")
    writing = common.Table(f"Generation, {args.threads} threads, fp32", "sentences/s")
    with tempfile.TemporaryDirectory() as folder:
        common.quiet(folder, args.threads)
        import torch

        torch.set_num_threads(args.threads)
        for shape in args.shape:
            measure(training, writing, args, shape, folder)
    common.report(training, writing)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = common.make_parser(__doc__)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["mini"], help="mini, base; toy tries the script")
    parser.add_argument("--beams", nargs="+", type=common.positive, default=[1, 4], help="hypotheses a row")
    parser.add_argument("--seconds", type=float, default=5.0, help="time for one measurement")
    parser.add_argument("--threads", type=common.positive, default=common.CORES)
    return parser


def measure(training: common.Table, writing: common.Table, args: argparse.Namespace, shape: str, folder: str) -> None:
    """Adds the lines of one shape."""
    import torch

    sizes, absent = SHAPES[shape], common.missing(args, "transformers", "safetensors")
    torch.manual_seed(1)
    theirs = None if absent else bart(sizes)
    ours = encoder_decoder(sizes, theirs, folder)
    keep = torch.arange(sizes["source"]) < torch.randint(sizes["source"] // 2, sizes["source"] + 1, (sizes["rows"], 1))
    keep[0] = True
    tokens = torch.where(keep, torch.randint(3, sizes["vocab"], keep.shape), PAD)
    labels = torch.randint(3, sizes["vocab"], (sizes["rows"], sizes["target"]))
    target = torch.cat((torch.full((sizes["rows"], 1), EOS), labels[:, :-1]), 1)

    def add(table: common.Table, what: str, todo: dict[str, Callable[[], int]]) -> None:
        rates = {name: lambda one=one: common.rate(one, args.seconds) for name, one in todo.items()}
        values = common.interleave(rates, args.repeats)
        table.add(what, values["taskmask"], "transformers", values.get("transformers", absent))

    for beams in args.beams:
        said: dict[str, list[list[int]]] = {}
        todo = {"taskmask": ours_says(ours, tokens, keep, beams, sizes["target"], said)}
        if theirs is not None:
            todo["transformers"] = theirs_says(theirs, tokens, keep, beams, sizes["target"], said)
        add(writing, f"{shape}, {'greedy' if beams == 1 else f'{beams} beams'}", todo)
        assert len({str(texts) for texts in said.values()}) == 1, "the texts differ"
    number = int(keep.sum()) + target.numel()
    todo = {"taskmask": step_of(ours, lambda: ours(tokens, keep, target=target)["seq2seq"], labels, number)}
    if theirs is not None:
        given = dict(input_ids=tokens, attention_mask=keep.long(), decoder_input_ids=target, use_cache=False)
        todo["transformers"] = step_of(theirs, lambda: theirs(**given).logits.flatten(0, 1), labels, number)
    add(training, shape, todo)


def bart(sizes: dict[str, int]) -> Any:
    """Makes the model of transformers."""
    from transformers import BartConfig, BartForConditionalGeneration

    halves = {}
    for half in ("encoder", "decoder"):
        halves |= {f"{half}_layers": sizes["layers"], f"{half}_attention_heads": sizes["heads"]}
        halves[f"{half}_ffn_dim"] = 4 * sizes["width"]
    config = BartConfig(
        vocab_size=sizes["vocab"],
        d_model=sizes["width"],
        max_position_embeddings=sizes["source"],
        dropout=DROPOUT,
        attention_dropout=DROPOUT,
        **halves,
    )
    return BartForConditionalGeneration(config)


def encoder_decoder(sizes: dict[str, int], theirs: Any, folder: str) -> Any:
    """Makes our model, with the weights of theirs if there is one."""
    from taskmask.models import EncoderDecoderConfig
    from taskmask.models.encoder_decoder import EncoderDecoder
    from taskmask.modules.heads_spec import HeadSpec

    layers = {"layers": sizes["layers"], "decoder_layers": sizes["layers"]}
    config = EncoderDecoderConfig(
        **layers, width=sizes["width"], heads=sizes["heads"], dropout=DROPOUT, attention_dropout=DROPOUT
    )
    heads = {"seq2seq": HeadSpec("lm")}
    model = EncoderDecoder(config, vocab_size=sizes["vocab"], max_length=sizes["source"], heads=heads)
    if theirs is not None:
        from taskmask.hf.model_folder import read_folder

        theirs.save_pretrained(folder)
        model.load_state_dict(read_folder(folder).weights)
    return model


def ours_says(model: Any, tokens: Any, keep: Any, beams: int, longest: int, said: dict[str, Any]) -> Callable[[], int]:
    """Returns a function that generates with taskmask, notes the texts and returns their number."""
    from taskmask.modules.heads_spec import GenerationConfig

    config = GenerationConfig(beams=beams, max_length=longest)

    def says() -> int:
        texts = model.eval().generate(tokens, keep, config, bos=BOS, eos=EOS)
        said["taskmask"] = [text.tolist() for text in texts]
        return len(texts)

    return says


def theirs_says(
    model: Any, tokens: Any, keep: Any, beams: int, longest: int, said: dict[str, Any]
) -> Callable[[], int]:
    """The same with transformers."""

    def says() -> int:
        texts = model.eval().generate(
            input_ids=tokens,
            attention_mask=keep.long(),
            num_beams=beams,
            max_new_tokens=longest,
            do_sample=False,
            early_stopping=False,
            forced_bos_token_id=BOS,
            forced_eos_token_id=EOS,
        )
        rows = [[*row[2:].tolist(), EOS] for row in texts]
        said["transformers"] = [row[: row.index(EOS)] for row in rows]
        return len(texts)

    return says


def step_of(model: Any, logits: Callable[[], Any], labels: Any, number: int) -> Callable[[], int]:
    """Returns a function that trains for one step and returns its tokens."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)

    def step() -> int:
        model.train()
        torch.nn.functional.cross_entropy(logits(), labels.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
        return number

    return step


if __name__ == "__main__":
    main()
