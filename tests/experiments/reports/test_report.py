"""The report: what the page says and shows, on whole, small and broken stores."""

import math
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from hesrl.errors import UserError
from hesrl.experiments.reports.comparisons import comparisons
from hesrl.experiments.reports.report import Args, main
from hesrl.experiments.reports.report_words import verdict
from hesrl.experiments.reports.scores import collect
from hesrl.experiments.reports.statistics import Interval
from hesrl.experiments.sweeps.store import Store
from tests.experiments.stores import ENVS, record, records, write_store


class Page(HTMLParser):
    """Texts by their element, rows of the tables, and images of a page."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.rows, self.images, self.open = {}, [], {}, []
        self.feed(text)
        self.close()
        assert not self.open, "elements that are not closed"

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images[dict(attrs)["alt"]] = dict(attrs)["src"]
        elif tag != "meta":
            self.open.append(tag)
            if tag == "tr":
                self.rows.append([])
            if tag in ("td", "th"):
                self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in self.open[-1:]:
            self.texts.setdefault(tag, []).append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def __contains__(self, words):
        return words in " ".join(text for several in self.texts.values() for text in several)


def report(tmp_path, several, **options):
    """Write a report, without further figures unless asked for, and return its page."""
    store = write_store(tmp_path / "sweep", several)
    assert main(Args(store=store, **{"figures": False, **options})) == 0
    text = (store / "report" / "report.html").read_text()
    assert text.count("<style>") == 1 and not re.search(r"(src|href)=\"(?!data:)", text)
    assert "http" not in text and "<script" not in text
    return Page(text)


def test_a_whole_store_has_every_section_table_and_figure(tmp_path, capsys):
    page = report(tmp_path, records(), figures=True)
    assert page.texts["h1"] == ["Report on sweep"]
    assert page.texts["h2"] == [
        "What was run", "Scores in each environment", "Learning curves, by environment steps",
        "Learning curves, by time of training", "Normalized scores over all environments",
        "Probability of improvement", "Performance profiles", "Sensitivity to the step size",
        "Settings that were chosen", "How this was computed",
    ]  # fmt: skip
    assert list(page.images) == page.texts["h2"][2:8]
    assert all(src.startswith("data:image/svg+xml;base64,") for src in page.images.values())
    facts = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert facts["tuning seeds"] == "1–3" and facts["test seeds"] == "101–104"
    assert facts["runs"] == "84 done" and facts["hesrl"] == "0.9.9"
    assert "all that is shown is of the test seeds, which chose nothing" in page
    assert "adahesscale has the largest IQM" in page and "It is better than adam" in page
    assert "report in " in capsys.readouterr().out


def test_each_figure_is_a_png_a_pdf_and_an_svg_that_names_what_it_shows(tmp_path):
    report(tmp_path, records(optimizers=("adam",), tests=(101,)), figures=True)
    folder = tmp_path / "sweep" / "report"
    names = {file.stem for file in folder.glob("*.svg")}
    assert names == {"curves-steps", "curves-seconds", "aggregates", "profiles", "step-size"}
    for name in names:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        words = "".join(re.findall(r"<!-- (.*?) -->", (folder / f"{name}.svg").read_text()))
        for what in (*ENVS, "tuning seeds 1–3", "test seed 101", "1,000 steps", "hesrl 0.9.9"):
            assert what in words


def test_the_numbers_of_the_tables_are_those_of_the_statistics(tmp_path):
    several = records()
    page = report(tmp_path, several)
    scores = collect(several)
    best = comparisons(scores)[0]
    (method,) = (m for m in scores.methods if m.optimizer == "adahesscale")
    row = next(row for row in page.rows if row[:1] == ["adahesscale"] and len(row) == 5)
    values = [column[method].text(".2f") for column in best.aggregates.values()]
    assert row == ["adahesscale", *values]
    chosen = scores.best(method, "Ant-v5")
    final = [record.final for record in scores.runs[chosen, "Ant-v5", "test"].values()]
    (row,) = (row for row in page.rows[:5] if row[:1] == ["adahesscale"])
    assert row[1].startswith(f"{np.mean(final):,.0f} (")
    assert row[4:6] == [f"learning_rate {dict(chosen.settings)['learning_rate']:g}", "4"]


def test_what_is_missing_and_what_counts_as_what_is_said(tmp_path):
    several = records()
    test = [place for place, one in enumerate(several) if one.trial.role == "test"]
    curve = np.array([(10.0, 1.0, 5.0)])
    several[test[0]] = several[test[0]]._replace(status="failed", line="disk <full>")
    several[test[1]] = several[test[1]]._replace(status="running")
    several[test[2]] = several[test[2]]._replace(status="diverged", final=math.nan, curve=curve)
    several[test[3]] = several[test[3]]._replace(final=math.nan, curve=np.empty((0, 3)))
    page = report(tmp_path, several)
    words = " ".join(page.texts["li"])
    assert "1 run diverged (adam 1). A run that diverged is a result: it has the lowest" in words
    assert "1 run not finished yet" in words and "1 run failed and left out" in words
    assert "seed 101: disk <full>" in words
    assert "1 run done without any episode that ended" in words


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tests": ()}, "There are tuning seeds only"),
        ({"tunings": ()}, "There are test seeds only"),
        ({"tests": (101,)}, "there is one seed, and so there are no intervals"),
    ],
)
def test_seeds_that_choose_and_show_are_named(tmp_path, options, said):
    assert said in report(tmp_path, records(**options))


def test_one_setting_and_one_seed_have_a_report(tmp_path):
    page = report(tmp_path, [record("Hopper-v5", "adam", 1e-3, 7, final=12.5)])
    assert "There is nothing to compare. adam, final score in Hopper-v5: 12.5." in page
    assert "There is no scale for normalized scores" in page
    assert page.rows[2][:3] == ["adam", "12.5", "8.75"] and page.images == {}


def test_runs_that_only_diverged_have_a_report(tmp_path):
    several = [one._replace(status="diverged", final=math.nan) for one in records(envs=ENVS[:1])]
    page = report(tmp_path, several)
    assert "42 runs diverged" in page and "no score" in page and "nan" not in page


def test_without_a_finished_run_there_is_no_report(tmp_path):
    several = [record("Hopper-v5", "adam", 1e-3, 1, status="failed")._replace(line="no such env")]
    store = write_store(tmp_path, several)
    with pytest.raises(UserError, match=rf"^no run of {store} has finished; ppo .*: no such env$"):
        main(Args(store=store))
    with pytest.raises(UserError, match=r"^no results in"):
        main(Args(store=tmp_path / "nothing"))


def test_bad_options_are_one_line(tmp_path):
    store = write_store(tmp_path, records(envs=ENVS[:1], tests=()))
    with pytest.raises(UserError, match=r"^--compare luck: no run of .* has this setting$"):
        main(Args(store=store, compare=("luck",)))
    reference = tmp_path / "reference.yaml"
    with pytest.raises(UserError, match=r"^--reference .*reference.yaml: cannot be read"):
        main(Args(store=store, reference=reference))
    for text in ("Ant-v5: 3", "[1, 2]", "Ant-v5: [a, b]", "{"):
        reference.write_text(text)
        with pytest.raises(UserError, match=r"give two numbers for each environment"):
            main(Args(store=store, reference=reference))
    reference.write_text("Ant-v5: [3, 3]")
    with pytest.raises(UserError, match=r"Ant-v5: the first number must be the lower one$"):
        main(Args(store=store, reference=reference))


def test_other_settings_are_compared_on_request(tmp_path):
    page = report(tmp_path, records(), compare=("optimizer", "learning_rate"))
    assert "adam 0.0001" in page and "Each method has one setting only." in page


@pytest.mark.parametrize(
    ("interval", "word"), [((0.7, 0.6, 0.8), "better"), ((0.3, 0.2, 0.49), "worse"),
                           ((0.7, 0.4, 0.9), "undecided"), ((1.0, math.nan, math.nan), "undecided")]
)  # fmt: skip
def test_verdicts(interval, word):
    assert verdict(Interval(*interval)) == word


def test_a_thousand_runs_are_read_and_compared_in_time(tmp_path):
    several = records(
        envs=("A-v1", "B-v1", "C-v1", "D-v1"), tunings=range(20), tests=range(100, 122)
    )
    store = write_store(tmp_path, several)
    assert len(several) == 1008
    start = time.process_time()
    with Store.open(store, read_only=True) as opened:
        comparisons(collect(opened.records()))
    assert time.process_time() - start < 5
