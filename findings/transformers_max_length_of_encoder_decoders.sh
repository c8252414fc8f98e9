#!/usr/bin/env bash
# transformers: how many tokens does generate() of an encoder-decoder write for max_length 20, and how many if nothing is set?
#
# Library: transformers 5.23.0 (torch 2.13.0), GenerationMixin.generate, BART.
# Guess: 20 is the default of max_length, so that writing the default into generation_config.json changes nothing.
# Behaviour: max_length counts the token that the decoder starts with, so 20 gives 19 new tokens; without it generate()
#   adds the length of the decoder's prompt to its default and gives 20 new tokens. max_new_tokens 20 gives 20, too.
#   min_length counts that token as well: 5 allows an end after 4 new tokens, min_new_tokens 5 after 5.
#   If generation_config.json is there, the same keys of config.json do not count; if it is not, they do.
# Source: the program below; transformers/generation/utils.py, _prepare_generated_length and generate
#   (has_default_max_length).
# Output seen:
#   new tokens: nothing set 20, max_length 20 gives 19, max_new_tokens 20 gives 20
#   first end allowed after: min_length 5 gives 4, min_new_tokens 5 gives 5
#   max_length 9 in config.json: 8 without generation_config.json, 20 beside one
# Exit code: not 0 if transformers no longer behaves so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 numpy
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder/bart" <<'P'
import json
import pathlib
import sys
import warnings

warnings.simplefilter("ignore")
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
folder = pathlib.Path(sys.argv[1])
torch.manual_seed(0)
sizes = dict(vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
             decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64)
model = transformers.BartForConditionalGeneration(transformers.BartConfig(**sizes)).eval()
model.save_pretrained(folder)
plain, ids = json.loads((folder / "config.json").read_text()), {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
ids["decoder_start_token_id"] = 2


def new_tokens(generation, ends=False, **config):
    """How many tokens are written after the one that the decoder starts with, by a model that ends late, or early."""
    (folder / "config.json").write_text(json.dumps({**plain, **config}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps({**ids, **generation}))
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    model.final_logits_bias[:, 2] = 99.0 if ends else -99.0
    return len(model.generate(torch.tensor([[0, 5, 6, 2]]))[0]) - 1


unset, length, new = new_tokens({}), new_tokens({"max_length": 20}), new_tokens({"max_new_tokens": 20})
print(f"new tokens: nothing set {unset}, max_length 20 gives {length}, max_new_tokens 20 gives {new}")
least = [new_tokens({key: 5, "max_length": 20}, ends=True) - 1 for key in ("min_length", "min_new_tokens")]
print(f"first end allowed after: min_length 5 gives {least[0]}, min_new_tokens 5 gives {least[1]}")
alone, beside = new_tokens(None, max_length=9), new_tokens({}, max_length=9)
print(f"max_length 9 in config.json: {alone} without generation_config.json, {beside} beside one")
assert [unset, length, new, *least, alone, beside] == [20, 19, 20, 4, 5, 8, 20]
P
