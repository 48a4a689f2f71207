"""Disentanglement: known values of known codes."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from ae_jax.evaluation import better, describe, disentanglement

RNG = np.random.default_rng(0)
N = 10_000
FACTORS = np.stack([RNG.integers(0, levels, N) for levels in (3, 6, 40, 32, 32)], 1)  # as `shapes` has
TRUTH = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)
ROTATIONS = [np.linalg.qr(RNG.normal(size=(5, 5)))[0] for _ in range(3)]
NOISE = RNG.normal(size=(N, 5))
YARDSTICKS = {
    "mig": lambda z: disentanglement.mig(z, FACTORS),
    "FactorVAE": lambda z: disentanglement.factor_vae_score(z, FACTORS, 0),
    "beta-VAE": lambda z: disentanglement.beta_vae_score(z, FACTORS, 0),
    "dci": lambda z: disentanglement.dci(z, FACTORS, 0),
    "sap": lambda z: disentanglement.sap(z, FACTORS),
    "sap by accuracy": lambda z: disentanglement.sap_accuracy(z, FACTORS, 0),
    "modularity": lambda z: disentanglement.modularity(z, FACTORS),
    "explicitness": lambda z: disentanglement.explicitness(z, FACTORS, 0),
    "irs": lambda z: disentanglement.irs(z, FACTORS),
    "reduced": lambda z: disentanglement.reduced_informativeness(z, FACTORS, 0),
}
TABLE = [  # the factors as codes; the range of random rotations of them; noise, whose value is not always 0
    ("mig", 0.896, (0.02, 0.2), 0.000),
    ("FactorVAE", 1, (0.6, 0.85), 0.20),
    ("beta-VAE", 1, (0.7, 0.93), 0.21),
    ("dci", (1, 1, 1), ((0.2, 0.2, 0.9), (0.6, 0.6, 1.0)), (0.015, 0.02, 0.0)),
    ("sap", 1, (0.1, 0.45), 0.0),
    ("sap by accuracy", 0.17, (0.02, 0.12), 0.0),  # 40 and 32 levels are not told by one line
    ("modularity", 1, (0.7, 0.95), 0.66),
    ("explicitness", 0.92, (0.8, 0.95), 0.0),
    ("irs", 1, (0.35, 0.6), 0.39),
    ("reduced", -0.04, (0.3, 0.7), -0.03),
]


def test_mutual_information_is_that_of_scikit_learn():
    a, b = RNG.integers(0, 5, 500), RNG.integers(-3, 4, 500)
    assert disentanglement.mutual_information(a, b) == pytest.approx(mutual_info_score(a, b), abs=1e-12)
    assert disentanglement.mutual_information(a, a) == pytest.approx(mutual_info_score(a, a), abs=1e-12)


@pytest.mark.parametrize(("bins", "expected"), [(20, 0.896), (40, 0.988)])
def test_the_factors_themselves_have_the_gap_that_the_bins_allow(bins, expected):
    assert disentanglement.mig(TRUTH, FACTORS, bins) == pytest.approx(expected, abs=0.003)


def test_rotated_factors_and_noise_have_little_gap():
    rotations = [np.linalg.qr(RNG.normal(size=(5, 5)))[0] for _ in range(10)]
    assert 0.02 < np.mean([disentanglement.mig(TRUTH @ rotation, FACTORS) for rotation in rotations]) < 0.2
    assert disentanglement.mig(RNG.normal(size=(N, 5)), FACTORS) < 0.005


@pytest.mark.parametrize(("name", "truth", "rotated", "noise"), TABLE, ids=[row[0] for row in TABLE])
def test_each_yardstick_on_the_factors_a_rotation_of_them_and_noise(name, truth, rotated, noise):
    measure = YARDSTICKS[name]
    assert measure(TRUTH) == pytest.approx(truth, abs=0.01)
    mean = np.mean([measure(TRUTH @ rotation) for rotation in ROTATIONS[:2]], 0)
    assert np.all((np.array(rotated[0]) < mean) & (mean < rotated[1]))
    assert measure(NOISE) == pytest.approx(noise, abs=0.04)


@pytest.mark.parametrize(("by", "same"), [("spearman", 1), ("lasso", 0.9)])
def test_seeds_that_agree_in_another_order_rank_above_rotations_and_noise(by, same):
    assert disentanglement.udr([TRUTH, -TRUTH[:, ::-1]], by=by) == pytest.approx(same, abs=0.03)
    assert (disentanglement.udr([TRUTH @ rotation for rotation in ROTATIONS], by=by) < 0.5).all()
    assert disentanglement.udr([NOISE, RNG.normal(size=(N, 5))], by=by) == pytest.approx(0, abs=0.02)


def test_units_that_tell_nothing_do_not_count_between_seeds():
    idle = np.c_[TRUTH, NOISE[:, :2]]
    kl = np.r_[np.ones(5), np.zeros(2)]
    known = disentanglement.udr([idle, idle[:, ::-1]], [kl, kl[::-1]], by="lasso")
    assert known == pytest.approx(0.9, abs=1e-3)
    assert (disentanglement.udr([idle, np.c_[TRUTH, NOISE[:, 2:4]]], by="lasso") < 0.7).all()
    assert (disentanglement.udr([idle, idle], [kl, 0 * kl], by="lasso") == 0).all()


def test_one_seed_that_differs_from_agreeing_ones_ranks_last():
    scores = disentanglement.udr([TRUTH, TRUTH @ ROTATIONS[0], TRUTH[:, ::-1], TRUTH])
    assert scores.argmin() == 1


def test_scores_know_no_scale_shift_or_order_of_units():
    mixed = TRUTH + 0.5 * NOISE
    other = mixed[:, ::-1] * [1, 3, 10, 30, 100] - 100
    for name in ("FactorVAE", "beta-VAE", "sap", "modularity"):
        assert YARDSTICKS[name](other) == pytest.approx(YARDSTICKS[name](mixed), abs=0.01), name


def test_a_seed_gives_the_same_score_and_another_seed_nearly():
    z = TRUTH @ ROTATIONS[0]
    first = disentanglement.factor_vae_score(z, FACTORS, 0)
    assert first == disentanglement.factor_vae_score(z, FACTORS, 0)
    assert first == pytest.approx(disentanglement.factor_vae_score(z, FACTORS, (1, 2)), abs=0.1)


def test_still_units_have_no_vote():
    known = np.c_[np.full(N, 3.0), TRUTH, 1e-3 * NOISE[:, :2]]
    assert disentanglement.factor_vae_score(known, FACTORS, 0) == 1
    assert disentanglement.factor_vae_score(0 * known, FACTORS, 0) == 0


def test_the_robustness_score_by_hand():
    factor, other = np.repeat([0, 1], 4), np.tile([0, 1], 4)
    z = np.r_[0.0, 1, 2, 3, 10, 11, 12, 17]
    # mean 7, furthest 10; about the values' means 1.5 and 12.5 it moves by at most 1.5 and 4.5
    assert disentanglement.irs(z[:, None], factor[:, None], 1.0) == pytest.approx(1 - 3 / 10)
    moved = 1 - np.mean([max(abs(z[i::2] - z[i::2].mean())) for i in (0, 1)]) / 10
    assert disentanglement.irs(z[:, None], other[:, None], 1.0) == pytest.approx(moved)
    both = np.c_[factor, other]
    assert disentanglement.irs(z[:, None], both, 1.0) == pytest.approx(0.7)  # the better of the two
    known = np.c_[z, 2.0 * other]  # the second unit is a factor, and its furthest distance is 1
    assert disentanglement.irs(known, both, 1.0) == pytest.approx((10 * 0.7 + 1) / 11)
    assert disentanglement.irs(np.c_[z, 0 * z], both, 1.0) == pytest.approx(0.7)
    assert disentanglement.irs(0 * known, both) == 0
    assert disentanglement.irs(-3 * z[:, None] + 5, both) == pytest.approx(disentanglement.irs(z[:, None], both))


def test_a_unit_that_repeats_the_best_keeps_the_informativeness():
    some, factors = TRUTH[:400, :2], FACTORS[:400, :2]
    alone = disentanglement.reduced_informativeness(some, factors, 0, trees=20)
    twice = np.c_[some, 2 - some]
    assert alone < 0.05
    assert disentanglement.reduced_informativeness(twice, factors, 0, trees=20) > 0.9
    assert disentanglement.reduced_informativeness(twice, factors, 0, trees=20, dropped=2) < 0.05
    with pytest.raises(ValueError, match="dropped is 2, and the codes have 2 units: leave at least one"):
        disentanglement.reduced_informativeness(some, factors, 0, dropped=2)


def test_units_share_the_information_that_they_have_in_common():
    levels = FACTORS[:, :2].astype(float)
    shared = disentanglement.shared_information(np.c_[levels[:, 0], 1 - levels[:, 0], levels[:, 1]])
    of = lambda a, b: mutual_info_score(FACTORS[:, a], FACTORS[:, b])
    assert shared == pytest.approx((of(0, 0) + 2 * of(0, 1)) / 3)  # three pairs, of which one is the same twice
    apart = np.random.default_rng(3).random((N, 3))  # the bias of the estimate is all that they share
    assert disentanglement.shared_information(apart) == pytest.approx(19**2 / (2 * N), rel=0.1)
    assert disentanglement.shared_information(TRUTH @ ROTATIONS[0]) > 2 * disentanglement.shared_information(NOISE)
    assert np.isnan(disentanglement.shared_information(NOISE[:, :1]))


def test_noise_beside_true_factors_does_not_look_modular():
    assert disentanglement.modularity(np.c_[TRUTH, NOISE], FACTORS) > 0.98  # unweighted: 0.83


def test_levels_may_be_any_numbers():
    some = FACTORS / 7 - 3
    for name in ("mig", "factor_vae_score", "explicitness", "sap", "sap_accuracy", "modularity"):
        seed = (0,) if name in ("factor_vae_score", "explicitness", "sap_accuracy") else ()
        measure = getattr(disentanglement, name)
        assert measure(TRUTH, some, *seed) == pytest.approx(measure(TRUTH, FACTORS, *seed), abs=1e-12), name


def test_factors_whose_values_do_not_recur_or_vary_are_refused():
    with pytest.raises(ValueError, match="a factor has 10000 levels in 10000 examples"):
        disentanglement.factor_vae_score(TRUTH, NOISE, 0)
    with pytest.raises(ValueError, match="a factor has 10000 levels in 10000 examples"):
        disentanglement.irs(TRUTH, NOISE)
    with pytest.raises(ValueError, match="none of 2 factors varies"):
        disentanglement.dci(TRUTH, np.zeros((N, 2)), 0)
    with pytest.raises(ValueError, match="give at least 8"):
        disentanglement.dci(TRUTH[:5], FACTORS[:5], 0)
    with pytest.raises(ValueError, match="give two seeds or more"):
        disentanglement.udr([TRUTH])
    with pytest.raises(ValueError, match="by is 'pearson'; it must be one of spearman, lasso"):
        disentanglement.udr([TRUTH, TRUTH], by="pearson")


def test_the_battery_has_what_fits_and_says_what_it_leaves_out():
    some = FACTORS[:300, [0, 1]]
    found = disentanglement.battery(TRUTH[:300, :2], some, some[:, 0], 0)
    assert {name.partition(" (")[0] for name in found} == {
        *("mig", "modularity", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness"),
        *("factor_vae_score", "beta_vae_score", "explicitness", "irs"),
    }
    assert found["sap (correlation)"] == disentanglement.sap(TRUTH[:300, :2], some[:, 1:])  # labels have no order
    assert found["sap (accuracy)"] == disentanglement.sap_accuracy(TRUTH[:300, :2], some[:, :1], 0)
    assert all(better(name) == "higher" and describe(name) for name in found)
    assert disentanglement.left_out(2, some) == ""
    few = disentanglement.battery(TRUTH[:50], FACTORS[:50], None, 0)
    assert not any("dci" in name for name in few)
    assert "50 examples" in disentanglement.left_out(5, FACTORS[:50])
    assert "101 units and 5 factors take minutes" in disentanglement.left_out(101, FACTORS)
    free = disentanglement.battery(TRUTH[:200], NOISE[:200], None, 0)
    assert "dci_completeness (trees=50)" in free
    assert "factor_vae_score" not in free
    assert "whose values recur" in disentanglement.left_out(5, NOISE)
    still = disentanglement.battery(TRUTH[:200], 0 * NOISE[:200], None, 0)
    assert all(np.isnan(value) for value in still.values())


def test_each_unit_twice_has_no_gap():
    assert disentanglement.mig(np.concatenate([TRUTH, TRUTH], 1), FACTORS) == 0
    assert disentanglement.sap_accuracy(np.concatenate([TRUTH, TRUTH], 1), FACTORS, 0) == 0


def test_a_unit_of_two_levels_tells_them_all_and_another_tells_by_chance():
    level = FACTORS[:, 1:2] % 2
    known = np.c_[level, NOISE[:, :1]]
    assert disentanglement.sap_accuracy(known, 3 - level, 0) == pytest.approx(0.5, abs=0.03)
    assert disentanglement.sap_accuracy(-7 * known[:, :1], level, 0) == 1  # no second unit


def test_the_gap_knows_no_scale_shift_or_order_of_units_and_no_constant_unit():
    found = disentanglement.mig(TRUTH, FACTORS)
    assert disentanglement.mig(3 * TRUTH[:, ::-1] - 100, FACTORS) == pytest.approx(found, abs=1e-9)
    assert disentanglement.mig(np.c_[TRUTH, np.ones(N)], FACTORS) == pytest.approx(found, abs=1e-9)


def test_a_factor_that_does_not_vary_does_not_count():
    still = np.c_[FACTORS, np.zeros(N, int)]
    assert disentanglement.mig(TRUTH, still) == disentanglement.mig(TRUTH, FACTORS)
    assert np.isnan(disentanglement.mig(TRUTH, np.zeros((N, 1), int)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_codes_and_factors_that_are_not_finite_are_refused(value):
    few = slice(300)
    broken, factors = TRUTH[few].copy(), FACTORS[few].astype(float)
    broken[3, 1] = value
    without = ("mig", "modularity", "sap", "irs")
    for name in (*without, "sap_accuracy", "dci", "factor_vae_score", "beta_vae_score", "explicitness"):
        seed = () if name in without else (0,)
        measure = getattr(disentanglement, name)
        with pytest.raises(ValueError, match="1 of the 1500 values of codes are NaN or infinite"):
            measure(broken, factors, *seed)
        with pytest.raises(ValueError, match="1 of the 1500 values of factors are NaN or infinite"):
            measure(TRUTH[few], broken, *seed)
    with pytest.raises(ValueError, match=r"values of codes\[1\] are NaN or infinite"):
        disentanglement.udr([TRUTH[few], broken])
    assert disentanglement.battery(broken, factors, None, 0) == {}
    assert disentanglement.battery(TRUTH[few], broken, None, 0) == {}


@pytest.mark.parametrize(
    ("measure", "options", "told"),
    [
        ("mig", {"bins": 2.5}, "bins is 2.5; it must be a whole number, at least 2"),
        ("modularity", {"bins": 1}, "bins is 1; it must be a whole number, at least 2"),
        ("dci", {"examples": 3}, "examples is 3; it must be a whole number, at least 8"),
        ("dci", {"examples": -3}, "examples is -3;"),
        ("dci", {"trees": 0}, "trees is 0;"),
        ("factor_vae_score", {"votes": 0}, "votes is 0; it must be a whole number, at least 1"),
        ("factor_vae_score", {"scored": 0}, "scored is 0;"),
        ("factor_vae_score", {"group": 1}, "group is 1; it must be a whole number, at least 2"),
        ("beta_vae_score", {"points": 0}, "points is 0;"),
        ("beta_vae_score", {"scored": True}, "scored is True;"),
        ("beta_vae_score", {"pairs": 0}, "pairs is 0;"),
        ("explicitness", {"examples": 3}, "examples is 3; it must be a whole number, at least 4"),
        ("reduced_informativeness", {"dropped": 0}, "dropped is 0; it must be a whole number, at least 1"),
        ("irs", {"quantile": 1.5}, "quantile is 1.5; it must be a fraction between 0 and 1"),
    ],
)
def test_numbers_that_give_no_score_are_refused(measure, options, told):
    seed = {} if measure in ("mig", "modularity", "irs") else {"seed": 0}
    with pytest.raises(ValueError, match=told):
        getattr(disentanglement, measure)(TRUTH[:300], FACTORS[:300], **seed, **options)


def test_few_examples_that_suffice_give_a_score():
    found = disentanglement.dci(TRUTH, FACTORS, 0, examples=np.int64(8), trees=1)
    assert np.isfinite(found).all()
    assert 0 <= disentanglement.factor_vae_score(TRUTH, FACTORS, 0, votes=1, scored=1, group=2) <= 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("measure", [disentanglement.explicitness, disentanglement.sap_accuracy])
def test_few_examples_of_a_level_are_no_reason_to_warn(measure):
    assert np.isfinite(measure(NOISE[:60], np.arange(60)[:, None] % 40, 0))


def test_codes_and_factors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"codes have the shape \(10000, 5\) and factors \(9, 5\)"):
        disentanglement.mig(TRUTH, FACTORS[:9])


def test_the_entropy_of_a_factor_takes_no_table_of_its_levels():
    """A real factor has as many levels as examples: a table of pairs would have 4e8 entries here."""
    factor = np.random.default_rng(0).normal(size=20_000)
    few = np.repeat([0, 1, 2], [10, 20, 30])
    assert disentanglement.entropy(factor) == pytest.approx(np.log(20_000))
    assert disentanglement.entropy(few) == pytest.approx(disentanglement.mutual_information(few, few))
    assert disentanglement.entropy(np.zeros(7)) == 0
