"""BART folders of Hugging Face: the same numbers and the same texts as transformers, in both directions."""

import itertools
import json

import pytest
import torch

from taskmask.errors import CheckpointError
from taskmask.hf.families import heads_of
from taskmask.hf.model_folder import fit_vocabulary, read_folder, write_folder
from taskmask.models import EncoderDecoderConfig
from taskmask.models.encoder_decoder import EncoderDecoder
from taskmask.modules.heads_spec import GenerationConfig

safetensors = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCAB, LENGTH, PAD, BOS, EOS = 97, 40, 1, 0, 2
SIZES = {
    **{"vocab_size": VOCAB, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3, "max_position_embeddings": LENGTH},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48},
}
IDS = {"pad": PAD, "bos": BOS, "eos": EOS}


def make(seed=0, kind="BartForConditionalGeneration", **changes):
    """A small model of transformers, all of whose numbers are drawn."""
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(transformers.BartConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_()
    return model


def build(hf):
    """Our model of what was read."""
    config = EncoderDecoderConfig(**hf.settings)
    model = EncoderDecoder(config, vocab_size=hf.vocab_size, max_length=hf.max_length, heads=heads_of(hf.kind, 1))
    model.load_state_dict(hf.weights)
    return model.eval()


def read(model, folder):
    model.save_pretrained(folder)
    return read_folder(folder)


def write(folder, hf, **changes):
    given = {"kind": hf.kind, "vocab_size": hf.vocab_size, "max_length": hf.max_length, **IDS}
    settings = {**hf.settings, **changes.pop("settings", {})}
    return write_folder(folder, EncoderDecoderConfig(**settings), hf.weights, **{**given, **changes})


@pytest.fixture(scope="module")
def batch():
    """Sources and targets, some of them padded."""
    torch.manual_seed(1)
    keep = torch.arange(20)[None] < torch.tensor([20, 11, 5, 7, 3])[:, None]
    tokens = torch.where(keep, torch.randint(4, VOCAB, keep.shape), PAD)
    target = torch.randint(4, VOCAB, (5, 9))
    target[:, 0] = EOS
    return tokens, keep, target


@torch.no_grad()
def compare(theirs, ours, batch):
    tokens, keep, target = batch
    wanted = theirs(input_ids=tokens, attention_mask=keep.long(), decoder_input_ids=target)
    hidden = wanted.encoder_last_hidden_state
    torch.testing.assert_close(ours.encode(tokens, keep)[keep], hidden[keep], atol=1e-5, rtol=1e-5)
    logits = ours(tokens, keep, target=target)["seq2seq"].view(wanted.logits.shape)
    torch.testing.assert_close(logits, wanted.logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"decoder_layers": 1, "activation_function": "gelu_python"}])
def test_the_same_numbers_in_both_directions(changes, batch, tmp_path):
    theirs = make(**changes)
    hf = read(theirs, tmp_path / "in")
    assert (hf.kind, hf.max_length, hf.vocab_size, hf.left_out, hf.labels) == ("seq2seq", LENGTH, VOCAB, [], [])
    assert hf.weights["heads.seq2seq.output_bias"].any()
    ours = build(hf)
    compare(theirs, ours, batch)

    assert write(tmp_path / "out", hf).model_types == ("bart",)
    again, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    compare(again.eval(), ours, batch)
    back = read_folder(tmp_path / "out")
    assert (back.settings, back.max_length, back.kind) == (hf.settings, hf.max_length, hf.kind)
    assert back.weights.keys() == hf.weights.keys()
    assert all(torch.equal(back.weights[name], hf.weights[name]) for name in hf.weights)
    before, after = (safetensors.load_file(tmp_path / name / "model.safetensors") for name in ("in", "out"))
    assert before.keys() == after.keys()
    for name, value in before.items():
        skip = 2 if name.endswith("embed_positions.weight") else 0  # rows that nothing reads
        assert torch.equal(value[skip:], after[name][skip:]), name


def texts_of(theirs, tokens, keep, config, **more):
    """What transformers generates, from after <s> to before </s>."""
    more |= {"length_penalty": config.length_penalty} if config.beams > 1 else {}
    found = theirs.generate(
        input_ids=tokens, attention_mask=keep.long(), num_beams=config.beams, do_sample=False,
        early_stopping=config.early_stopping, no_repeat_ngram_size=config.no_repeat_ngram,
        min_new_tokens=config.min_length, max_new_tokens=config.max_length, **more,
    )  # fmt: skip
    rows = [row[2:].tolist() for row in found]
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]


FORCED = {"forced_bos_token_id": BOS, "forced_eos_token_id": EOS}
SEARCHES = [
    GenerationConfig(
        beams=beams,
        length_penalty=penalty,
        no_repeat_ngram=ngram,
        min_length=least,
        max_length=most,
        early_stopping=ngram % 2 == 1,
    )
    for (beams, penalty), ngram, (least, most) in itertools.product(
        [(1, 1.0), (2, 1.0), (4, 0.0), (4, 2.0), (5, -1.0)], [0, 1, 2, 3], [(0, 12), (5, 12), (0, 4), (3, 30)]
    )
]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_the_same_texts(seed, batch, tmp_path):
    """Greedy and beam search; the head's bias is drawn so that texts end at different places."""
    tokens, keep, _ = batch
    theirs = make(seed)
    theirs.final_logits_bias[0, EOS] += 4
    ours, lengths = build(read(theirs, tmp_path)), set()
    for config in SEARCHES[seed::3]:
        texts = [text.tolist() for text in ours.generate(tokens, keep, config, bos=BOS, eos=EOS)]
        assert texts == texts_of(theirs, tokens, keep, config, **FORCED), config
        lengths |= {len(text) for text in texts}
    assert len(lengths) >= 5


def test_what_we_write_generates_as_we_do(batch, tmp_path):
    """The folder says how the decoder starts and ends."""
    tokens, keep, _ = batch
    hf = read(make(5), tmp_path / "in")
    write(tmp_path / "out", hf)
    ours, theirs = build(hf), transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    config = GenerationConfig(beams=3, max_length=10)
    texts = [text.tolist() for text in ours.generate(tokens, keep, config, bos=BOS, eos=EOS)]
    assert texts == texts_of(theirs, tokens, keep, config)


def test_a_model_without_a_head_and_an_older_file(batch, tmp_path):
    """facebook/bart-base is a BartModel; older files have copies of the embedding and no bias."""
    theirs = make()
    theirs.final_logits_bias.zero_()
    theirs.model.save_pretrained(tmp_path / "bare")
    bare = read_folder(tmp_path / "bare")
    assert bare.kind == "seq2seq" and not bare.weights["heads.seq2seq.output_bias"].any()
    compare(theirs, build(bare), batch)

    theirs.save_pretrained(tmp_path / "old")
    file = tmp_path / "old/model.safetensors"
    weights = safetensors.load_file(file)
    for name in ("lm_head.weight", "model.encoder.embed_tokens.weight"):
        weights[name] = weights["model.shared.weight"].clone()
    safetensors.save_file({name: value for name, value in weights.items() if name != "model.shared.weight"}, file)
    old = read_folder(tmp_path / "old")
    assert all(torch.equal(old.weights[name], bare.weights[name]) for name in bare.weights) and old.left_out == []
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    safetensors.save_file(weights, file)
    with pytest.raises(CheckpointError, match=r"lm_head.weight differs from the one it should copy"):
        read_folder(tmp_path / "old")


def test_a_smaller_vocabulary(batch, tmp_path):
    theirs = make()
    hf = read(theirs, tmp_path)
    cut = fit_vocabulary(hf.weights, 90)
    assert len(cut["embeddings.tokens.weight"]) == len(cut["heads.seq2seq.output_bias"]) == 90
    with pytest.raises(CheckpointError, match="has 97 rows for a vocabulary of 100"):
        fit_vocabulary(hf.weights, 100)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"activation_function": "relu"}, "activation_function is 'relu'"),
        ({"scale_embedding": True}, "scale_embedding is True"),
        ({"decoder_attention_heads": 8}, "decoder_attention_heads is 8; expected 4, as in the encoder"),
        ({"decoder_ffn_dim": 64}, "decoder_ffn_dim is 64; expected 48, as in the encoder"),
        ({"decoder_start_token_id": 0}, "decoder_start_token_id is 0; expected 2, the eos_token_id"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder is False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"decoder_layers": 99999}, "decoder_layers is 99999; expected no more than the"),
        ({"d_model": 64}, r"has shape \(97, 32\)"),
        ({"normalize_before": True}, "normalize_before is True"),
    ],
)
def test_what_is_refused(changes, says, tmp_path):
    make().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **changes}))
    with pytest.raises(CheckpointError, match=says):
        read_folder(tmp_path)


def test_what_there_is_no_counterpart_of(tmp_path):
    hf = read(make(), tmp_path / "in")
    with pytest.raises(
        CheckpointError, match=r"no family of Hugging Face has model.norm pre .*model.norm post, as in bart"
    ):
        write(tmp_path / "out", hf, settings={"norm": "pre"})
    hf.weights["heads.seq2seq.output_bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"weight heads.seq2seq.output_bias has shape"):
        write(tmp_path / "out", hf)
    assert not (tmp_path / "out").exists()
