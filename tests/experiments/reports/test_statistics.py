"""Statistics over seeds and tasks against their published definitions, written out slowly."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hesrl.experiments.reports import statistics
from tests.experiments.reports import coverage

SHAPES = [(1, 5), (3, 5), (4, 10), (2, 1)]


def scores_of(shape, seed=0):
    scores = np.random.default_rng(seed).normal(0.7, 0.4, shape)
    scores.flat[1] = scores.flat[0]
    return scores


@pytest.mark.parametrize("shape", SHAPES)
def test_aggregates_are_as_published(shape):
    x = scores_of(shape)
    tasks, seeds = shape
    every = [x[m, i] for m in range(tasks) for i in range(seeds)]
    assert statistics.mean(x) == pytest.approx(sum(every) / (tasks * seeds))
    means = sorted(sum(row) / seeds for row in x.tolist())
    middle = means[(tasks - 1) // 2], means[tasks // 2]
    assert statistics.median(x) == pytest.approx(sum(middle) / 2)
    assert statistics.iqm(x) == pytest.approx(stats.trim_mean(every, 0.25))
    gap = sum(max(1 - score, 0) for score in every) / len(every)
    assert statistics.optimality_gap(x) == pytest.approx(gap)


@pytest.mark.parametrize("shape", SHAPES)
def test_performance_profiles_are_shares_of_runs_above(shape):
    x, thresholds = scores_of(shape), [-1.0, 0.5, float(scores_of(shape).flat[0]), 3.0]
    expected = [sum(score > tau for score in x.ravel()) / x.size for tau in thresholds]
    np.testing.assert_allclose(statistics.performance_profile(x, thresholds), expected)


@pytest.mark.parametrize("others", [2, 5])
def test_the_probability_of_improvement_is_that_of_mann_and_whitney(others):
    x, y = scores_of((3, 5)), scores_of((3, others), seed=1)
    y[0, 0] = x[0, 2]
    wins = [
        np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(*pair)])
        for pair in zip(x, y, strict=True)
    ]
    u = [stats.mannwhitneyu(*pair).statistic / (5 * others) for pair in zip(x, y, strict=True)]
    assert statistics.probability_of_improvement(x, y) == pytest.approx(np.mean(wins))
    assert np.mean(wins) == pytest.approx(np.mean(u))


def test_axes_before_tasks_and_seeds_are_kept():
    x = np.stack([scores_of((3, 5)), scores_of((3, 5), seed=1)])
    for statistic in (
        statistics.mean, statistics.median, statistics.iqm, statistics.optimality_gap,
    ):  # fmt: skip
        assert statistic(x).tolist() == pytest.approx([float(statistic(one)) for one in x])
    assert statistics.performance_profile(x, [0.1, 0.5, 0.9]).shape == (2, 3)


def test_the_interval_of_a_mean_is_students():
    x = scores_of((1, 7))
    low, high = stats.ttest_1samp(x[0], 0).confidence_interval(0.95)
    exact = statistics.mean_interval(x.T)
    assert (exact.low[0], exact.high[0]) == pytest.approx((low, high))
    found = statistics.bootstrap_interval(statistics.mean, x)
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.03)
    assert found == statistics.bootstrap_interval(statistics.mean, x)


def test_the_degrees_of_freedom_are_those_of_welch_and_satterthwaite():
    x = scores_of((2, 6)) * [[1.0], [4.0]]
    v = x.var(axis=1, ddof=1) / 6
    freedom = v.sum() ** 2 / (v**2 / 5).sum()
    margin = stats.t.ppf(0.975, freedom) * np.sqrt(v.sum()) / 2
    found = statistics.bootstrap_interval(statistics.mean, x)
    assert found.high - found.value == pytest.approx(margin, rel=0.03)


def test_a_share_of_one_has_an_interval_with_a_width():
    x, y = np.arange(10.0).reshape(2, 5) + 100, np.arange(10.0).reshape(2, 5)
    z2 = stats.norm.ppf(0.975) ** 2
    found = statistics.share_interval(statistics.probability_of_improvement, x, y)
    assert found.value == 1
    assert (found.low, found.high) == pytest.approx((20 / (20 + z2), 1))
    below = statistics.share_interval(statistics.probability_of_improvement, y, x)
    assert (below.low, below.high) == pytest.approx((0, z2 / (20 + z2)))


def test_wilsons_interval_is_scipys_where_runs_are_independent():
    x = np.array([[0.0] * 30 + [1.0] * 10])
    statistic = coverage.STATISTICS["share above 0.5"]
    found = statistics.share_interval(statistic, x)
    exact = stats.binomtest(10, 40).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=0.01)


@pytest.mark.parametrize("interval", [statistics.bootstrap_interval, statistics.share_interval])
def test_one_seed_has_no_interval(interval):
    found = interval(statistics.probability_of_improvement, np.ones((2, 1)), np.zeros((2, 3)))
    assert found.value == 1 and np.isnan([found.low, found.high]).all()
    assert np.isnan(statistics.mean_interval(np.ones((1, 4))).low).all()


def test_scores_that_are_equal_have_no_width():
    found = statistics.bootstrap_interval(statistics.iqm, np.full((2, 5), 0.25))
    assert found == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("name", ["mean", "iqm"])
def test_intervals_cover_the_truth(name):
    percentile, ours = coverage.coverage(name, coverage.normal, tasks=4, seeds=5, repeats=300)
    assert abs(ours - 95) < 3 and percentile < 93


def test_measured_coverage_is_95_percent_within_2():
    path = Path(coverage.__file__).with_suffix(".csv")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scores"] == "normal"]
    measured = {(row["statistic"], row["tasks"], row["seeds"]): float(row["ours"]) for row in rows}
    ours = {key: value for key, value in measured.items() if key[0] in ("mean", "iqm")}
    assert len(ours) == 12
    assert {key for key, value in ours.items() if not 93 <= value <= 97} <= {("iqm", "1", "5")}
    assert max(ours.values()) < 97.5


def test_the_page_has_the_measured_coverages():
    path = Path(coverage.__file__).with_suffix(".csv")
    page = (Path(__file__).parents[3] / "docs" / "report.md").read_text()
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["scores"] == "normal"]
    lines = [
        f"| {row['statistic'].replace('iqm', 'IQM')} | {row['tasks']} | {row['seeds']} "
        f"| {row['percentile']} | {row['ours']} |\n"
        for row in rows
        if row["tasks"] in ("1", "4") and row["statistic"][0] in "imp"
    ]
    assert len(lines) == 12 and all(line in page for line in lines)
