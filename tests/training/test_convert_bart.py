"""BART folders as runs and runs as BART folders: the same texts, there and back."""

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import transformers
from hf_help import TEXTS, shake, tokenizer

from taskmask.checkpoints import checkpoint
from taskmask.hf.convert import from_hf, to_hf
from taskmask.inference import loaded_model
from taskmask.models.encoder_decoder import EncoderDecoder
from taskmask.modules.heads_spec import GenerationConfig

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
SIZES = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 98}
SIZES |= {f"{half}_{what}": size for half in ("encoder", "decoder")
          for what, size in (("attention_heads", 4), ("ffn_dim", 48))}  # fmt: skip
CONFIG = GenerationConfig(beams=3, max_length=20, no_repeat_ngram=3)


def write_bart(folder, old_files):
    """A folder as transformers saves it, with tokenizer.json or with the files of before."""
    own = tokenizer("bytes")
    ids = {
        f"{name}_token_id": own.token_to_id(text) for name, text in (("pad", "<pad>"), ("bos", "<s>"), ("eos", "</s>"))
    }
    ids |= {"decoder_start_token_id": ids["eos_token_id"], "forced_eos_token_id": ids["eos_token_id"]}
    torch.manual_seed(0)
    config = transformers.BartConfig(vocab_size=own.get_vocab_size() + 7, **SIZES, **ids)
    model = transformers.BartForConditionalGeneration(config).eval()
    shake(model)
    model.save_pretrained(folder)
    if old_files:
        own.model.save(str(folder))  # vocab.json and merges.txt
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BartTokenizer"}))
    else:
        own.save(str(folder / "tokenizer.json"))
    return model


def ours(run):
    loaded = loaded_model.load(str(run))
    vocab, model = loaded.vocab, loaded.model
    assert isinstance(model, EncoderDecoder)
    rows = [[vocab.bos, *ids, vocab.eos] for ids in vocab.encode(TEXTS)]
    return [model.generate(torch.tensor([row]), None, CONFIG, bos=vocab.bos, eos=vocab.eos)[0].tolist() for row in rows]


@torch.no_grad()
def theirs(model, own):
    """What transformers says of its own encoding of the texts, in one padded batch."""
    batch = own(TEXTS, padding=True, return_tensors="pt")
    found = model.generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=CONFIG.beams,
        max_new_tokens=CONFIG.max_length, no_repeat_ngram_size=CONFIG.no_repeat_ngram, do_sample=False,
        early_stopping=False, forced_bos_token_id=own.bos_token_id, forced_eos_token_id=own.eos_token_id,
    )  # fmt: skip
    rows = [[*row[2:].tolist(), own.eos_token_id] for row in found]
    return [row[: row.index(own.eos_token_id)] for row in rows]


@pytest.mark.parametrize("old_files", [False, True])
def test_there_and_back(old_files, tmp_path):
    write_bart(tmp_path / "hf", old_files)
    done = from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    assert (done.family, done.kind, done.surplus, done.left_out) == ("bart", "seq2seq", 7, [])
    assert done.settings.model.name == "encoder_decoder" and done.settings.data.length == 98

    to_hf(str(tmp_path / "run"), str(tmp_path / "out"))
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = ours(tmp_path / "run")
    assert texts == theirs(model, own) and any(texts)
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "A Transformer encoder and decoder that says a text for a text: 2 + 2 layers" in card
    assert 'AutoModelForSeq2SeqLM.from_pretrained("out")' in card and "pipeline_tag: text2text-generation" in card

    back = from_hf(str(tmp_path / "out"), str(tmp_path / "back"))
    assert (back.family, back.surplus) == ("bart", 0) and ours(tmp_path / "back") == texts
    before, after = (checkpoint.load(checkpoint.best_of(tmp_path / name, "min"))["model"] for name in ("run", "back"))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_shorter_rows(tmp_path):
    """Of both tables of places the first are taken."""
    from taskmask.config import Assignment

    write_bart(tmp_path / "hf", False)
    from_hf(str(tmp_path / "hf"), str(tmp_path / "run"), [Assignment("data.length", 40, "test")])
    model = loaded_model.load(str(tmp_path / "run")).model
    assert model.embeddings.positions.num_embeddings == model.target_embeddings.positions.num_embeddings == 40
