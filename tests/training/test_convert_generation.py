"""How texts are generated comes in and goes out with a BART folder, so that transformers and a run write the same."""

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import transformers
from hf_help import TEXTS
from test_convert_bart import write_bart

from taskmask.config import Assignment
from taskmask.errors import CheckpointError
from taskmask.hf.convert import from_hf, to_hf
from taskmask.inference import loaded_model
from taskmask_cli.convert import report_run

SOME = [text for text in TEXTS if text][:3]


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    """A folder with a model whose texts end at many lengths, and the ids of its specials."""
    folder = tmp_path_factory.mktemp("bart") / "hf"
    model = write_bart(folder, False)
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.6)
    model.final_logits_bias[:, model.config.eos_token_id] = 6.0
    model.save_pretrained(folder)
    return folder, {name: getattr(model.config, f"{name}_token_id") for name in ("pad", "bos", "eos")}


@pytest.fixture
def given(bart, tmp_path):
    """A copy of it with another generation_config.json, or none and more in config.json."""

    def make(generation, config=None):
        for file in bart[0].iterdir():
            (tmp_path / "hf").mkdir(exist_ok=True)
            (tmp_path / "hf" / file.name).write_bytes(file.read_bytes())
        pad, bos, eos = bart[1].values()
        ids = {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos, "decoder_start_token_id": eos}
        ids |= {"forced_bos_token_id": bos, "forced_eos_token_id": eos}
        file = tmp_path / "hf/generation_config.json"
        file.unlink() if generation is None else file.write_text(json.dumps({**ids, **generation}))
        file = tmp_path / "hf/config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **(config or {}), "forced_bos_token_id": bos}))
        return str(tmp_path / "hf")

    return make


@torch.no_grad()
def theirs(folder):
    """What transformers writes when it is told nothing, without the specials around it."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    own = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for text in SOME:
        row = model.generate(input_ids=own(text, return_tensors="pt")["input_ids"])[0].tolist()
        assert row[:2] == [model.config.eos_token_id, model.config.bos_token_id]
        row = [*row[2:], model.config.eos_token_id]
        found.append(row[: row.index(model.config.eos_token_id)])
    return found


def ours(run):
    """What `predict` writes, as ids."""
    loaded = loaded_model.load(run)
    vocab, how = loaded.vocab, loaded.asked.generation(loaded.settings.data.length)
    rows = [torch.tensor([[vocab.bos, *ids, vocab.eos]]) for ids in vocab.encode(SOME)]
    texts = [loaded.model.generate(row, None, how, bos=vocab.bos, eos=vocab.eos)[0] for row in rows]
    assert [one["generated"] for one in loaded.predict(SOME)] == [vocab.decode(text) for text in texts]
    return [text.tolist() for text in texts]


BEAMS = {"num_beams": 4, "max_length": 24}


@pytest.mark.parametrize(
    "generation",
    [
        {},
        {"max_length": 20},
        {"max_new_tokens": 7, "max_length": 40},
        {"min_length": 12, "max_length": 16, "no_repeat_ngram_size": 2},
        {"min_new_tokens": 9, "max_new_tokens": 11},
        {"min_length": 50, "max_length": 10},
        {**BEAMS, "early_stopping": True, "length_penalty": 2.0, "min_length": 5, "no_repeat_ngram_size": 3},
        {**BEAMS, "early_stopping": True, "length_penalty": -1.0, "min_length": 4},
        {**BEAMS, "early_stopping": False, "length_penalty": 2.0},
        {**BEAMS, "temperature": 0.7, "top_k": 5, "do_sample": False, "repetition_penalty": 1.0},
        {"num_beams": 3, "max_length": 98},
    ],
    ids=str,
)
def test_the_same_texts_there_and_here_and_there(generation, given, tmp_path):
    folder, run, out = given(generation), str(tmp_path / "run"), str(tmp_path / "out")
    done = from_hf(folder, run)
    to_hf(run, out)
    expected = theirs(folder)
    assert ours(run) == expected == theirs(out) and any(expected) and not done.notes
    back = from_hf(out, str(tmp_path / "back"))
    assert back.settings.task == done.settings.task and not back.notes


def test_early_stopping_changes_texts_as_it_does_there(given, tmp_path):
    found = {}
    for early in (True, False):
        folder = given({"num_beams": 2, "max_length": 30, "early_stopping": early, "length_penalty": 3.0})
        run = str(tmp_path / f"run-{early}")
        assert from_hf(folder, run).settings.task.options.early_stopping is early
        found[early] = ours(run)
        assert found[early] == theirs(folder)
    assert sum(map(len, found[True])) < sum(map(len, found[False]))


def test_without_a_file_of_its_own_config_json_says_how(given, tmp_path):
    """As folders of before 2023 have it; beside such a file what config.json says does not count."""
    older = {"num_beams": 3, "max_length": 15, "min_length": 6, "no_repeat_ngram_size": 2}
    for name, generation in (("old", None), ("both", {"max_length": 9})):
        folder = given(generation, older)
        options = from_hf(folder, str(tmp_path / name)).settings.task.options
        assert (options.beams, options.max_length) == ((3, 14) if name == "old" else (1, 8))
        assert ours(str(tmp_path / name)) == theirs(folder)


def test_settings_of_the_command_line_win(given, tmp_path):
    more = [Assignment("task.beams", 2, "test"), Assignment("data.length", 40, "test")]
    done = from_hf(given({"max_length": 60, "no_repeat_ngram_size": 3}), str(tmp_path / "run"), more)
    assert (done.settings.task.options.beams, done.settings.task.options.no_repeat_ngram) == (2, 3)
    to_hf(str(tmp_path / "run"), str(tmp_path / "out"))
    written = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert (written["num_beams"], written["max_length"]) == (2, 41)  # as long as the model can write
    assert ours(str(tmp_path / "run")) == theirs(str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("generation", "says"),
    [
        ({"do_sample": True, "top_k": 3}, "do_sample is true, for which there is no setting"),
        ({"num_beams": 4, "num_beam_groups": 2}, "num_beam_groups is 2, for which"),
        ({"repetition_penalty": 1.3}, "repetition_penalty is 1.3, for which"),
        ({"bad_words_ids": [[5]]}, "bad_words_ids is [[5]], for which"),
        ({"num_beams": 2, "early_stopping": "never"}, 'early_stopping is "never", for which'),
        ({"forced_bos_token_id": None}, "forced_bos_token_id is missing, and always 0 here"),
        ({"forced_eos_token_id": None}, "forced_eos_token_id is missing, and always"),
        ({"decoder_start_token_id": 9}, "decoder_start_token_id is 9, and always"),
        ({"eos_token_id": [2, 9]}, "eos_token_id is [2, 9], and always"),
    ],
    ids=str,
)
def test_what_cannot_be_expressed_is_named(generation, says, given, tmp_path, bart):
    done = from_hf(given(generation), str(tmp_path / "run"))
    says = says.replace("always 0", f"always {bart[1]['bos']}")
    assert len(done.notes) == 1 and done.notes[0].startswith(f"generation_config.json: {says}")
    assert any(line.startswith(f"warning: generation_config.json: {says[:20]}") for line in report_run(done, "run"))


@pytest.mark.parametrize(
    ("generation", "says"),
    [
        ({"num_beams": 0}, "num_beams is 0; expected an integer from 1"),
        ({"max_length": 2}, "max_length is 2; expected an integer from 3"),
        ({"max_length": "long"}, "max_length is 'long'; expected an integer"),
        ({"length_penalty": [1]}, r"length_penalty is \[1\]; expected a number"),
        ({"early_stopping": 1}, 'early_stopping is 1; expected true, false or "never"'),
        ({"max_new_tokens": 1 << 40}, "max_new_tokens is 1099511627776; expected an integer from 2 to 16,777,216"),
    ],
    ids=str,
)
def test_what_is_no_setting_is_refused(generation, says, given, tmp_path):
    with pytest.raises(CheckpointError, match=rf"generation_config\.json: {says}"):
        from_hf(given(generation), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
