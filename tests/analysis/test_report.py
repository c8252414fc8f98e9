"""The reports say the same in all three forms, stand alone, and survive what is lacking."""

import csv
import dataclasses
import html.parser
import io
import math
import re
import unicodedata

import pytest
from results_help import TOPIC, made_up

from taskmask.analysis.compare import tables
from taskmask.analysis.compare.export import summary_lines, tidy, write_reports
from taskmask.analysis.compare.results import Cost
from taskmask.analysis.compare.runner import Comparison
from taskmask.analysis.compare.verdicts import of_language_models, of_tasks
from taskmask.stats.bootstrap import OverRuns

EMPTY_TAGS = {"meta", "br", "wbr", "img", "link", "input", "hr"}
SMALL = {"points": 2, "examples": 150, "tasks": (TOPIC,), "maskers": ("uniform", "span")}
STRANGE = '<b>bold & "bad"</b> | *star* `tick`\nline'
FAILED = (("intermediate", "worst", 2), ("fine-tuning topic", "span", 3))


class Tags(html.parser.HTMLParser):
    """Checks that tags are closed in order, and gathers texts and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.attributes, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


def parsed(text):
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert not tags.open
    return tags


def written(results, folder):
    files = write_reports(results, folder)
    assert [file.name for file in files] == ["report.html", "report.md", "report.csv"]
    page, markdown, table = (file.read_text("utf-8") for file in files)
    return parsed(page), page, markdown, list(csv.DictReader(io.StringIO(table)))


@pytest.fixture(scope="module")
def results():
    return made_up(**SMALL, failed=FAILED)


@pytest.fixture(scope="module")
def reports(results, tmp_path_factory):
    return written(results, tmp_path_factory.mktemp("report"))


def test_the_page_stands_alone(reports):
    tags, page, _, _ = reports
    assert not re.search(r"https?:|//|@import|url\(", page)
    assert not {"script", "link", "iframe", "img", "object"} & tags.tags
    assert not any(name in ("src", "href") or name.startswith("on") for name, _ in tags.attributes)
    assert page.count("<svg") == 7  # means and differences of a task and two maskers, and one chart of curves


def test_all_forms_say_the_same(results, reports):
    tags, _, markdown, table = reports
    text = "".join(tags.texts)
    for row in (*of_tasks(results), *of_language_models(results)):
        figures = [f"{row.score.mean:.4f}", f"{row.score.low:.4f} to {row.score.high:.4f}", row.verdict]
        figures += [f"{row.difference.mean:+.4f}"] if row.difference else []
        for figure in figures:
            assert figure in text and figure in markdown
        own = [line for line in table if (line["of"], line["policy"]) == (row.asked.name, row.name)]
        [mean] = [line for line in own if line["quantity"] == "mean"]
        assert (float(mean["value"]), float(mean["low"])) == (row.score.mean, row.score.low)
        [difference] = [line for line in own if line["quantity"] == "difference"]
        assert difference["verdict"] == row.verdict
        assert difference["p_holm"] == (str(row.p_holm) if row.difference else "")
        runs = {int(line["seed"]): float(line["value"]) for line in own if line["quantity"] == "run"}
        assert runs == dict(zip(row.seeds, row.score.runs, strict=True))


def test_costs_curves_and_what_repeats_it(reports):
    tags, _, markdown, table = reports
    text = "\n".join(tags.texts)
    for what in ("share of the baseline's updates", "share of the baseline's FLOPs", "pre-training, once for all",
                 "1.25e+15", "12:34", '"vocabulary": "c3d4"', '"torch": "2.9.1"'):  # fmt: skip
        assert what in text and what in markdown
    points = [line for line in table if line["quantity"] == "point" and line["policy"] == "span"]
    assert [float(line["share"]) for line in points] == [0, 0.5, 1]
    kinds = {line["kind"] for line in table if line["quantity"] == "cost"}
    assert kinds == {"pre-training", "intermediate", "fine-tuning"}
    assert {line["metric"] for line in table if line["quantity"] == "reached"} == {"updates", "flops"}


def test_costs_that_were_counted_and_costs_from_a_file_are_written_alike(results):
    """A stage that was trained just now counts its updates; one that was done before reads them as JSON."""
    texts = []
    for number in (int, float):
        cost = Cost(number(10), number(2000), number(300), 1e9, number(7))
        given = dataclasses.replace(results, costs={name: {1: cost} for name in results.policies}, pretraining=cost)
        texts.append(tidy(given, (), (), ()))
    assert texts[0] == texts[1] and "updates,uniform,,1,10.0," in texts[0]
    assert all(type(value) is float for value in dataclasses.astuple(Cost(10, 20)))


def test_failures_are_shown(results, reports):
    tags, _, markdown, _ = reports
    text = "\n".join(tags.texts)
    assert "2 stages failed" in text and text.count("diverged at step 31") == 2 == markdown.count("diverged at step 31")
    lines = "\n".join(summary_lines(results))
    assert "failed: intermediate, worst, seed 2: diverged" in lines and "failed (1 of 5 seeds)" in lines


def test_no_form_ever_says_that_policies_are_equal(results, reports):
    tags, _, markdown, _ = reports
    for text in ("\n".join(tags.texts), markdown, "\n".join(summary_lines(results))):
        said = text.replace("no proof of equality", "")
        assert "no proof of equality" in text and not re.search(r"equal|no difference|as good", said, re.I)


def test_strange_names_are_shown_as_they_are(tmp_path):
    results = made_up((("uniform", 0.0), (STRANGE, 0.05)), **SMALL, seeds=(1, 2))
    tags, page, markdown, table = written(dataclasses.replace(results, name=STRANGE), tmp_path)
    assert STRANGE in tags.texts and "b" not in tags.tags and "<b>" not in page
    assert STRANGE in {line["policy"] for line in table}
    lines = [line for line in markdown.splitlines() if "bold" in line and line.startswith("|")]
    assert lines and all("<b>" not in line.replace("\\<", "") for line in lines)
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines if "not shown" in line or "better" in line}
    assert widths == {10}


@pytest.mark.parametrize(
    "changed, lacking, there",
    [
        ({"tasks": ()}, ("Verdicts", "Learning curves"), "Language models on common masks"),
        ({"maskers": ()}, ("Language models",), "Verdicts"),
        ({"seeds": (3,)}, (), "One seed:"),
        ({"budget": "flops"}, ("of the baseline's updates",), "share of the baseline's FLOPs"),
        ({"budget": "targets"}, (), "share of the baseline's masked tokens"),
    ],
)
def test_what_is_lacking_is_left_out(changed, lacking, there, tmp_path):
    made = made_up(**{**SMALL, "seeds": (1, 2, 3), "maskers": ("uniform",), **changed})
    tags, _, markdown, _ = written(made, tmp_path)
    for text in ("\n".join(tags.texts), markdown):
        assert there in text and not any(name in text for name in lacking)
        assert ("over examples alone" in text) == (changed.get("seeds") == (3,))
    assert summary_lines(made)


def test_nothing_came_to_its_end(tmp_path):
    policies = ("uniform", "span", "worst")
    failed = [("intermediate", name, seed) for name in policies for seed in (1, 2)]
    failed += [("fine-tuning topic", "", seed) for seed in (1, 2)]
    made = dataclasses.replace(made_up(**SMALL, seeds=(1, 2), failed=failed), pretraining=None, finetuning={})
    tags, _, markdown, table = written(made, tmp_path)
    for text in ("\n".join(tags.texts), markdown):
        assert "failed (2 of 2 seeds)" in text and "8 stages failed" in text
    assert {line["verdict"] for line in table} == {"failed (2 of 2 seeds)"}


def test_figures_for_people():
    assert [tables.p_value(p) for p in (0.0004, 0.0316, 1.0, math.nan)] == ["< 0.001", "0.032", "1.000", "-"]
    assert [tables.percent(s) for s in (0.0, 0.384, 1.3, math.inf, math.nan)] == ["0 %", "38 %", "130 %", "never", "-"]
    assert [tables.large(n) for n in (0, 12_345.6, 1_234_567)] == ["0", "12,346", "1.23e+06"]
    assert tables.interval(-0.1, 0.25, "+") == "-0.1000 to +0.2500" and tables.interval(math.nan, 1.0) == "-"
    assert tables.with_deviation(OverRuns(0.5, math.nan, 0.4, 0.6, (0.5,))) == "0.5000"


def test_the_summary_is_a_table_with_the_verdict_last(results):
    lines = summary_lines(results)
    first = next(number for number, line in enumerate(lines) if line == "labelled tasks")
    header, *table = lines[first + 1 : lines.index("", first)]
    assert header.endswith("verdict") and len(table) == 4
    assert all(unicodedata.category(letter)[0] != "C" for line in lines for letter in line)
    assert table[1].endswith("  baseline") and table[1].split()[:2] == ["topic", "uniform"]


def test_the_same_results_give_the_same_files(results, reports, tmp_path):
    again = write_reports(made_up(**SMALL, failed=FAILED), tmp_path)
    assert again[0].read_text("utf-8") == reports[1]


def test_a_notebook_shows_the_page(results, reports):
    """In a frame, so that its style stays inside."""
    tags = Tags()
    tags.feed(Comparison._repr_html_(results))
    page = dict(tags.attributes)["srcdoc"]
    assert tags.tags == {"iframe"} and page == reports[1]
