"""What is compared, which settings are chosen, and what a run counts that has no score."""

import math

import numpy as np
import pytest

from hesrl.experiments.reports.comparisons import comparisons, learned, profiles, sensitivity
from hesrl.experiments.reports.scores import collect
from hesrl.experiments.sweeps.choice import Candidate, chosen
from tests.experiments.stores import ENVS, RATES, record, records


def table(final, **settings):
    """Return records of the final scores {(env_id, rate, role): scores by seed}."""
    return [
        record(env_id, "adam", rate, seed, role, final=score, **settings)
        for (env_id, rate, role), scores in final.items()
        for seed, score in enumerate(scores, start=1 if role == "tuning" else 101)
    ]


def rate_of(candidate):
    return dict(candidate.settings)["learning_rate"]


def test_settings_are_chosen_by_tuning_seeds_and_shown_on_test_seeds():
    scores = collect(table({
        ("A-v1", 0.1, "tuning"): [1.0, 3.0], ("A-v1", 0.1, "test"): [9.0, 9.0],
        ("A-v1", 0.2, "tuning"): [4.0, 2.0], ("A-v1", 0.2, "test"): [1.0, 5.0],
    }))  # fmt: skip
    (method,) = scores.methods
    best = scores.best(method, "A-v1")
    assert rate_of(best) == 0.2 and (scores.chosen_by, scores.shown) == ("tuning", "test")
    assert scores.by_seed(best, "A-v1", scores.shown) == {101: 1.0, 102: 5.0}
    assert scores.scale["A-v1"] == (2.0, 9.0)
    (comparison,) = comparisons(scores)
    np.testing.assert_allclose(comparison.scores[method], [[-1 / 7, 3 / 7]])


def test_the_best_setting_for_all_environments_is_that_of_the_sweep():
    found = [one for one in records(tests=()) if one.status in ("done", "diverged")]
    scores = collect(found)
    candidates = list(dict.fromkeys(Candidate(r.trial.agent, r.trial.settings) for r in found))
    every = {
        choice.in_env(env_id)
        for method in scores.methods
        for env_id in ENVS
        for choice in (scores.best(method, env_id), scores.best_for_all(method))
    }
    assert every == set(chosen(candidates, [1, 2, 3], found))


def test_a_run_that_diverged_or_is_silent_has_the_lowest_score():
    several = table({("A-v1", 0.1, "test"): [5.0, 2.0, math.nan], ("A-v1", 0.2, "test"): [7.0]})
    several[1] = several[1]._replace(status="diverged", final=math.nan)
    scores = collect(several)
    (method,) = scores.methods
    assert scores.by_seed(scores.methods[method][0], "A-v1", "test") == {101: 5, 102: 5, 103: 5}


def test_failed_and_unfinished_runs_have_no_score():
    several = table({("A-v1", 0.1, "test"): [5.0, 2.0, 3.0, 4.0]})
    for place, status in ((0, "failed"), (1, "pending"), (3, "running")):
        several[place] = several[place]._replace(status=status)
    scores = collect(several)
    (method,) = scores.methods
    assert scores.by_seed(scores.methods[method][0], "A-v1", "test") == {103: 3.0}


def test_settings_with_fewer_tuning_runs_are_not_chosen():
    scores = collect(table({
        ("A-v1", 0.1, "tuning"): [1.0, 1.0], ("A-v1", 0.2, "tuning"): [9.0],
    }))  # fmt: skip
    (method,) = scores.methods
    assert rate_of(scores.best(method, "A-v1")) == 0.1


def test_reference_scores_are_a_scale():
    several = table({("A-v1", 0.1, "test"): [5.0, 10.0]})
    scores = collect(several, reference={"A-v1": (0.0, 20.0)})
    np.testing.assert_allclose(scores.normalized("A-v1", [5.0, 10.0]), [0.25, 0.5])
    flat = collect(several[:1])
    np.testing.assert_array_equal(flat.normalized("A-v1", [5.0]), [1.0])


def test_anything_can_be_compared():
    scores = collect(records(), compare=("learning_rate",))
    assert [method.label for method in scores.methods] == [f"{rate:g}" for rate in RATES]
    assert scores.differing == ("optimizer",)


def test_aggregates_are_of_seeds_that_all_environments_have():
    several = [one for one in records(optimizers=("adam",), tests=(101, 102, 103))
               if (one.trial["env_id"], one.trial.seed) != (ENVS[0], 102)]  # fmt: skip
    scores = collect(several)
    for comparison in comparisons(scores):
        (method,) = comparison.scores
        assert comparison.seeds[method] == [101, 103]
        assert comparison.scores[method].shape == (len(ENVS), 2)
        assert np.isfinite(comparison.aggregates["IQM"][method]).all()


def test_an_environment_that_a_method_lacks_is_left_out():
    several = [one for one in records()
               if (one.trial["env_id"], one.trial["optimizer"]) != (ENVS[0], "adam")]  # fmt: skip
    for comparison in comparisons(collect(several)):
        assert comparison.env_ids == list(ENVS[1:]) and len(comparison.scores) == 2


def test_curves_are_means_over_the_seeds_and_lowest_after_a_divergence():
    points = np.array([(25, 1, math.nan), (50, 2, 4.0), (75, 3, 6.0), (100, 4, 8.0)])
    several = [
        record("A-v1", "adam", 0.1, 1, "test", final=8.0, curve=points, total=100),
        record("A-v1", "adam", 0.1, 2, "test", final=1.0, curve=points * [1, 3, 0.5], total=100),
        record("A-v1", "adam", 0.1, 3, "test", status="diverged", curve=points[:2], total=100),
    ]
    scores = collect(several)
    (candidates,) = scores.methods.values()
    curve = learned(scores, candidates[0], "A-v1")
    at = [int(np.flatnonzero(curve.steps == step)[0]) for step in (49, 50, 74, 75, 100)]
    means = [10 / 3, (4 + 2 + 1) / 3, (6 + 3 + 1) / 3, (8 + 4 + 1) / 3]
    np.testing.assert_allclose(curve.returns.value[at[1:]], means)
    assert np.isnan(curve.returns.value[at[0]])
    np.testing.assert_allclose(curve.seconds[at[-1]], (4 + 12) / 2)


def test_sensitivity_takes_the_best_of_the_other_settings():
    several = table({("A-v1", 0.1, "tuning"): [1.0, 3.0], ("A-v1", 0.2, "tuning"): [4.0, 4.0]})
    several += table({("A-v1", 0.1, "tuning"): [5.0, 7.0]}, gae_lambda=0.5)
    scores = collect(several)
    (method,) = scores.methods
    found = sensitivity(scores, method, "A-v1")
    assert {size: interval.value for size, interval in found.items()} == {0.1: 6.0, 0.2: 4.0}


def test_profiles_fall_from_all_runs_to_none():
    comparison, _ = comparisons(collect(records()))
    thresholds, found = profiles(comparison)
    for shares in found.values():
        assert (np.diff(shares.value) <= 0).all() and shares.value[-1] == 0
        assert (shares.low <= shares.value).all() and (shares.value <= shares.high).all()
    assert thresholds[0] == 0 and thresholds[-1] >= 1


def test_an_unknown_score_is_no_column():
    with pytest.raises(AttributeError):
        collect(records(), score="luck")
