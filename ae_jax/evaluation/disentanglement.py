"""Disentanglement of codes: how each factor of variation is spread over the units of a code.

The scores are functions of all codes and factors of a set, in float64, with NumPy and scikit-learn. Factors [N, F] are
any finite numbers; each distinct value is a level. Codes and factors that are NaN or infinite raise ValueError.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import PORTION, check_choice, check_finite, check_whole

BINS = 20  # of a unit's range
QUANTILE = 0.99  # of a unit's distances from its mean
TREES = 50  # of a boosted regressor
LARGEST = 500  # units times factors, at most, for which trees and regressions take seconds
FEWEST = 100  # examples, at least, for which scores by trees and regressions have a meaning


def _fitted(machine: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """The fitted classifier, without scikit-learn's warning about many classes: a level may have few examples."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes")
        return machine.fit(x, y)


def binned(codes: Any, bins: int = BINS) -> np.ndarray:
    """The number of the bin of each code, in `bins` equal bins of its unit's range. [N, K] -> [N, K], from 0."""
    codes = np.asarray(codes, np.float64)
    low, high = codes.min(0), codes.max(0)
    width = np.where(high > low, high - low, 1)
    return np.minimum((bins * ((codes - low) / width)).astype(np.int64), bins - 1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """The plug-in estimate of I(a; b) in nats, for integers a [N] and b [N]."""
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)
    joint = counts / len(a)
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / independent[some])).sum())


def entropy(v: np.ndarray) -> float:
    """The plug-in estimate of H(v) in nats, for values v [N]."""
    share = np.unique(v, return_counts=True)[1] / len(v)
    return float((share * np.log(1 / share)).sum())


def information(codes: Any, factors: Any, bins: int = BINS) -> tuple[np.ndarray, np.ndarray]:
    """(mutual information I(c_k; v_j) of binned codes and factors, [K, F]; entropies H(v_j), [F]), in nats.

    Args:
        codes: [N, K].
        factors: [N, F], the levels of each factor.
        bins: the number of bins of each unit's range, at least 2.
    Raises ValueError for shapes that do not fit, and for other `bins`.
    """
    codes, factors = _both(codes, factors)
    check_whole(2, bins=bins)
    places = binned(codes, bins)
    shared = [[mutual_information(unit, factor) for factor in factors.T] for unit in places.T]
    return np.array(shared), np.array([entropy(factor) for factor in factors.T])


def mig(codes: Any, factors: Any, bins: int = BINS) -> float:
    """The mutual information gap: the mean over factors of (I(c_1; v) - I(c_2; v)) / H(v).

    c_1 and c_2 are the two units with the most information on the factor v. Factors that do not vary do not count. It
    is 0 if each unit occurs twice. Chen et al. (2018), arXiv:1802.04942, eq. (6), with the plug-in estimate on binned
    codes of Locatello et al. (2019), arXiv:1811.12359. Arguments and errors are those of `information`; NaN if no
    factor varies.
    """
    return _mig(*information(codes, factors, bins))


def _mig(shared: np.ndarray, entropies: np.ndarray) -> float:
    vary = entropies > 0
    return float((_gap(shared)[vary] / entropies[vary]).mean()) if vary.any() else float("nan")


def factor_vae_score(
    codes: Any,
    factors: Any,
    seed: Any,
    *,
    votes: int = 10_000,
    scored: int = 5_000,
    group: int = 64,
    least: float = 0.05,
) -> float:
    """How well the unit that varies least tells which factor is fixed: the accuracy of a majority vote.

    A vote draws a factor at random, and `group` examples with the same value of it. The unit with the smallest ratio of
    its variance in the group to its variance over all examples votes for that factor. Noise scores 1 / F. Kim & Mnih
    (2018), arXiv:1802.05983, section 4.

    Args:
        codes: [N, K].
        factors: [N, F], the levels of each factor.
        seed: for the draws; a number, or several.
        votes: the number of votes that decide the factor of each unit.
        scored: the number of further votes, whose factors are predicted.
        group: examples in a vote, at least 2.
        least: units with a smaller standard deviation are left out; the score is 0 if no unit is left.
    Raises ValueError for shapes that do not fit, for a factor whose values do not recur, and if no factor varies.
    """
    check_whole(votes=votes, scored=scored)
    check_whole(2, group=group)
    codes, factors = _varying(codes, factors)
    variance = codes.var(0)
    codes, variance = codes[:, variance >= least**2], variance[variance >= least**2]
    if not codes.shape[1]:
        return 0.0
    rng = np.random.default_rng(seed)
    which = rng.integers(factors.shape[1], size=votes + scored)
    unit = np.empty(votes + scored, int)
    for j, alike in enumerate(_alike(factors)):
        at = np.flatnonzero(which == j)
        for some in np.array_split(at, max(1, len(at) * group * codes.shape[1] >> 22)):
            together = alike(rng, rng.integers(len(codes), size=len(some)), group)  # [V, group]
            unit[some] = (codes[together].var(1) / variance).argmin(1)
    table = np.zeros((codes.shape[1], factors.shape[1]))
    np.add.at(table, (unit[:votes], which[:votes]), 1)
    return float((table.argmax(1)[unit[votes:]] == which[votes:]).mean())


def beta_vae_score(
    codes: Any, factors: Any, seed: Any, *, points: int = 10_000, scored: int = 5_000, pairs: int = 64
) -> float:
    """How well a linear classifier tells which factor has the same value in both examples of a pair: its accuracy.

    A point belongs to a random factor, and is the mean of |z - z'| over `pairs` pairs with the same value of that
    factor. The classifier is softmax regression on `points` standardised points, scored on `scored` others. Noise
    scores 1 / F. Higgins et al. (2017), ICLR, section 3.

    Other arguments and errors are those of `factor_vae_score`.
    """
    from sklearn.linear_model import LogisticRegression

    check_whole(points=points, scored=scored, pairs=pairs)
    codes, factors = _varying(codes, factors)
    rng = np.random.default_rng(seed)
    which = rng.integers(factors.shape[1], size=points + scored)
    apart = np.empty((points + scored, codes.shape[1]))
    for j, alike in enumerate(_alike(factors)):
        at = np.flatnonzero(which == j)
        for some in np.array_split(at, max(1, len(at) * pairs * codes.shape[1] >> 22)):
            first = rng.integers(len(codes), size=len(some) * pairs)
            second = alike(rng, first, 1)[:, 0]
            apart[some] = np.abs(codes[first] - codes[second]).reshape(len(some), pairs, -1).mean(1)
    if factors.shape[1] == 1:
        return 1.0  # there is no other factor
    apart = _standard(apart)
    fitted = LogisticRegression(max_iter=1000).fit(apart[:points], which[:points])
    return float(fitted.score(apart[points:], which[points:]))


class DCI(NamedTuple):
    """The result of `dci`; each score is 1 at best."""

    disentanglement: float  # how far each unit is important for one factor only
    completeness: float  # how far only one unit is important for each factor
    informativeness: float  # R^2 of the regressor on held-out examples, a mean over factors


def dci(codes: Any, factors: Any, seed: Any, *, trees: int = TREES, examples: int = 2_000) -> DCI:
    """Disentanglement, completeness and informativeness, by regressors of boosted trees from codes to each factor.

    Each standardised factor has `trees` trees of depth 3. R [K, F] are their importances. Disentanglement is
    D = sum_k rho_k (1 - H_F(R_k)), where rho_k is the share of unit k in all importances and H_F is the entropy to the
    base F. Completeness is the same with units and factors exchanged. Eastwood & Williams (2018), ICLR, section 2.
    Another regressor gives other numbers: a lasso finds noise disentangled.

    Args:
        codes: [N, K].
        factors: [N, F], ordered.
        seed: for the choice of examples; a number, or several.
        trees: the number of trees of each regressor.
        examples: the largest number of examples, chosen at random, at least 8; a quarter of them is held out.
    Raises ValueError for shapes that do not fit, for fewer than 8 examples, and if no factor varies.
    """
    codes, targets, regress = _regressor(codes, factors, seed, trees, examples)
    fits = [regress(codes, target) for target in targets.T]
    importance = np.stack([fit[0] for fit in fits], 1)
    return DCI(_concentration(importance), _concentration(importance.T), float(np.mean([fit[1] for fit in fits])))


def reduced_informativeness(
    codes: Any, factors: Any, seed: Any, *, dropped: int = 1, trees: int = TREES, examples: int = 2_000
) -> float:
    """The informativeness of `dci` for the code without the `dropped` most important units of each factor.

    A score near 0 or below means that no other unit has information on the factor. A score near that of the whole code
    means that other units repeat it. Units are removed one by one: new trees are fitted, and the unit with the largest
    importance is removed. Noise scores 0, too.

    Other arguments and errors are those of `dci`; raises ValueError also if no unit is left.
    """
    check_whole(dropped=dropped)
    codes, targets, regress = _regressor(codes, factors, seed, trees, examples)
    if dropped >= codes.shape[1]:
        raise ValueError(f"dropped is {dropped}, and the codes have {codes.shape[1]} units: leave at least one")
    explained = []
    for target in targets.T:
        left = codes
        for _ in range(dropped):
            left = np.delete(left, regress(left, target)[0].argmax(), axis=1)
        explained.append(regress(left, target)[1])
    return float(np.mean(explained))


def _regressor(codes: Any, factors: Any, seed: Any, trees: int, examples: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """(chosen codes [n, K], their standardised factors [n, F], (codes, target) -> (importances [K], held-out R^2))."""
    from sklearn.ensemble import GradientBoostingRegressor

    check_whole(trees=trees)
    check_whole(8, examples=examples)
    codes, factors = _varying(codes, factors)
    if len(codes) < 8:
        raise ValueError(f"there are {len(codes)} examples; give at least 8, as a quarter is held out")
    chosen = np.random.default_rng(seed).permutation(len(codes))[:examples]
    seen = len(chosen) * 3 // 4

    def regress(codes: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
        fitted = GradientBoostingRegressor(n_estimators=trees, max_depth=3, random_state=0)
        fitted.fit(codes[:seen], target[:seen])
        return np.asarray(fitted.feature_importances_), float(fitted.score(codes[seen:], target[seen:]))

    return codes[chosen], _standard(factors[chosen]), regress


def _concentration(importance: np.ndarray) -> float:
    """sum_k rho_k (1 - H(R_k)), entropies to the base of the number of columns. [K, F] -> float."""
    total = importance.sum(1, keepdims=True)
    share = importance / np.where(total > 0, total, 1)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(1) / np.log(max(importance.shape[1], 2))
    return float((total[:, 0] / (total.sum() or 1) * (1 - entropy)).sum())


def sap(codes: Any, factors: Any) -> float:
    """Separated attribute predictability: the mean over factors of the gap between the two largest scores of units.

    The score of a unit is its squared correlation with the factor. Kumar et al. (2018), arXiv:1711.00848, section 3,
    for ordered factors; `sap_accuracy` is for factors without order. Codes [N, K], factors [N, F]. Raises ValueError
    for shapes that do not fit, and if no factor varies.
    """
    codes, factors = _varying(codes, factors)
    squared = np.square(_standard(codes).T @ _standard(factors) / len(codes))  # [K, F]
    return float(_gap(squared).mean())


def sap_accuracy(codes: Any, factors: Any, seed: Any, *, examples: int = 4_000) -> float:
    """Separated attribute predictability of factors without order: `sap` with accuracies in place of correlations.

    The score of a unit is the accuracy of a linear support vector machine on that unit alone, one level against the
    rest (C = 0.01, balanced class weights); half of the examples train it, and the others score it. Kumar et al.
    (2018), arXiv:1711.00848, section 3; C and weights as in disentanglement_lib. A linear classifier of one number
    separates few levels, so the factors themselves as codes score below 0.2 if they have many levels. A code in which
    each unit occurs twice scores 0.

    Args:
        codes: [N, K].
        factors: [N, F], the levels of each factor.
        seed: for the choice of examples; a number, or several.
        examples: the largest number of examples, chosen at random, at least 4.
    Raises ValueError for shapes that do not fit, and if no factor varies. NaN if none varies among those that train.
    """
    from sklearn.svm import LinearSVC

    codes, factors, half = _drawn(codes, factors, seed, examples)
    accuracies = np.zeros((codes.shape[1], len(factors)))
    for j, level in enumerate(factors):
        for k, unit in enumerate(codes.T):
            machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
            _fitted(machine, unit[:half, None], level[:half])
            accuracies[k, j] = np.mean(machine.predict(unit[half:, None]) == level[half:])
    return float(_gap(accuracies).mean()) if factors else float("nan")


def modularity(codes: Any, factors: Any, bins: int = BINS) -> float:
    """How far each unit has information on one factor only: 1 - sum_{j not 1} I(c; v_j)^2 / ((F - 1) I(c; v_1)^2).

    v_1 is the factor on which unit c has the most information. The score is a mean over units with the weights
    I(c; v_1). Noise scores about 0.66, because the estimates of I are biased for all factors: compare `explicitness`.
    Ridgeway & Mozer (2018), arXiv:1802.05312, section 3.1, without weights there. Arguments and errors are those of
    `information`; NaN if no unit has information on a factor.
    """
    return _modularity(*information(codes, factors, bins))


def _modularity(shared: np.ndarray, entropies: np.ndarray) -> float:
    shared = shared[:, entropies > 0]
    if not shared.size or not (largest := shared.max(1)).any():
        return float("nan")
    told = largest > 0
    rest = np.square(shared[told]).sum(1) / np.square(largest[told]) - 1
    return float(np.average(1 - rest / max(shared.shape[1] - 1, 1), weights=largest[told]))


def irs(codes: Any, factors: Any, quantile: float = QUANTILE) -> float:
    """Interventional robustness score: how little each unit changes while the best factor for it is fixed.

    The distance of unit c_k at a value of factor v_j is the `quantile` of |c_k - E[c_k | v_j]| over the examples with
    that value. d_kj is its mean over values divided by max |c_k - E c_k|. The score is the mean over units of
    1 - min_j d_kj, weighted by max |c_k - E c_k|, so it depends on the units' scales. Suter et al. (2019),
    arXiv:1811.00007, take the maximum in place of the quantile. Noise scores above 0, as few examples of a value reach
    a unit's extremes.

    Args:
        codes: [N, K].
        factors: [N, F], the levels of each factor.
        quantile: the quantile of the distances, from 0 to 1.
    The score is 0 if no unit varies. Raises ValueError for shapes that do not fit, a factor whose values do not recur,
    and a quantile outside 0 to 1.
    """
    PORTION.check("quantile", quantile)
    codes, factors = _varying(codes, factors)
    _check_recur(factors)
    furthest = np.abs(codes - codes.mean(0)).max(0)  # [K]
    codes, furthest = codes[:, furthest > 0], furthest[furthest > 0]
    if not len(furthest):
        return 0.0
    moved = np.zeros((len(furthest), factors.shape[1]))
    for j, factor in enumerate(factors.T):
        groups = [codes[factor == value] for value in np.unique(factor)]
        moved[:, j] = np.mean([np.quantile(np.abs(group - group.mean(0)), quantile, axis=0) for group in groups], 0)
    return float(np.average(1 - (moved / furthest[:, None]).min(1), weights=furthest))


def shared_information(codes: Any, bins: int = BINS) -> float:
    """The mean mutual information I(c_k; c_l) in nats over pairs of binned units; NaN for one unit. No factors needed.

    Independent units score at most about (bins - 1)^2 / 2N, the bias of the estimate. Locatello et al. (2019),
    arXiv:1811.12359. Arguments and errors are those of `information`.
    """
    codes, _ = _both(codes, np.zeros((len(codes), 1)))
    check_whole(2, bins=bins)
    units = binned(codes, bins).T
    pairs = [mutual_information(units[k], units[n]) for k in range(len(units)) for n in range(k)]
    return float(np.mean(pairs)) if pairs else float("nan")


def explicitness(codes: Any, factors: Any, seed: Any, *, examples: int = 4_000) -> float:
    """How well softmax regression predicts each factor's levels from codes: 2 AUC - 1, a mean over levels and factors.

    Half of the examples train the regression. The AUC is that of each level against the rest, on the other half. A
    rotation of the code hardly changes the score. Ridgeway & Mozer (2018), arXiv:1802.05312, section 3.1.

    Args:
        codes: [N, K].
        factors: [N, F], the levels of each factor.
        seed: for the choice of examples; a number, or several.
        examples: the largest number of examples, chosen at random, at least 4.
    Raises ValueError for shapes that do not fit, and if no factor varies. NaN if none varies among those that train.
    """
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression

    codes, factors, half = _drawn(codes, factors, seed, examples)
    of_factors = []
    for factor in factors:
        fitted = _fitted(LogisticRegression(max_iter=200), codes[:half], factor[:half])
        scores = fitted.predict_proba(codes[half:])  # [N, L]; a level's logit alone would rank along one line of codes
        of_levels = []
        for level, score in zip(fitted.classes_, scores.T, strict=True):
            here = factor[half:] == level
            n, m = int(here.sum()), int((~here).sum())
            if n and m:
                of_levels.append((rankdata(score)[here].sum() - n * (n + 1) / 2) / (n * m))
        if of_levels:
            of_factors.append(2 * np.mean(of_levels) - 1)
    return float(np.mean(of_factors)) if of_factors else float("nan")


def udr(
    codes: Sequence[Any], kl: Any = None, *, by: str = "spearman", alpha: float = 0.1, least: float = 0.01
) -> np.ndarray:
    """Unsupervised disentanglement ranking: how far each seed's units match those of other seeds, in any order. -> [S].

    R [K, K] relates the units of two seeds. The score of the pair is the mean over R's rows and columns of max^2 / sum.
    The score of a seed is the median over the other seeds. Duan et al. (2020), arXiv:1905.12614, section 4. It needs no
    factors.

    Args:
        codes: the codes of the same examples by each of S seeds, each [N, K].
        kl: the KL of each unit to its prior in nats, [S, K]; None if all units count.
        by: "spearman", |rank correlation|; or "lasso", |weights| of the lasso from one seed's units to another's.
        alpha: strength of the lasso's penalty; the score of two equal codes is 1 - alpha.
        least: units with a smaller KL do not count.
    Raises ValueError for fewer than two seeds, for codes of different shapes, and for codes that are not finite.
    """
    from scipy.stats import rankdata
    from sklearn.linear_model import Lasso

    check_choice("by", by, ("spearman", "lasso"))
    shapes = {np.shape(z) for z in codes}
    if len(codes) < 2 or len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(
            f"the codes have the shapes {[np.shape(z) for z in codes]}; give two seeds or more, each [N, K]"
        )
    check_finite(**{f"codes[{i}]": z for i, z in enumerate(codes)})
    told = np.ones((len(codes), np.shape(codes[0])[1]), bool) if kl is None else np.asarray(kl) >= least
    scaled = [_standard(rankdata(z, axis=0) if by == "spearman" else np.asarray(z)) for z in codes]

    def relation(a: np.ndarray, b: np.ndarray) -> np.ndarray:  # [K, K']
        if by == "spearman":
            return np.abs(a.T @ b) / len(a)
        return np.abs(Lasso(alpha=alpha).fit(a, b).coef_.reshape(b.shape[1], -1).T)

    scores = np.zeros((len(codes), len(codes)))
    for i, a in enumerate(scaled):
        for j, b in enumerate(scaled):
            if i != j and told[i].any() and told[j].any():
                a_told, b_told = a[:, told[i]], b[:, told[j]]
                scores[i, j] = _one_to_one(relation(a_told, b_told))
    others = ~np.eye(len(codes), dtype=bool)
    return np.array([np.median(row[other]) for row, other in zip(scores, others, strict=True)])


def _one_to_one(relation: np.ndarray) -> float:
    """The mean over rows and columns of max^2 / sum; 1 for a permutation. [K, K'] -> float."""
    share = lambda r: r.max(1) ** 2 / np.where(r.sum(1) > 0, r.sum(1), 1)
    return float(np.concatenate([share(relation), share(relation.T)]).mean())


def _both(codes: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Codes in float64, and factors. Raises ValueError for shapes that do not fit, NaN and infinite values."""
    codes, factors = np.asarray(codes, np.float64), np.asarray(factors)
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not len(codes):
        raise ValueError(
            f"codes have the shape {codes.shape} and factors {factors.shape}; wanted: [N, K] and [N, F] of the same N"
        )
    check_finite(codes=codes, factors=factors)
    return codes, factors


def _varying(codes: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """`_both`, with only the factors that vary. Raises ValueError if none varies."""
    codes, factors = _both(codes, factors)
    vary = (factors != factors[:1]).any(0)
    if not vary.any():
        raise ValueError(
            f"none of {factors.shape[1]} factors varies over the {len(codes)} examples: give one that does"
        )
    return codes, factors[:, vary]


def _drawn(codes: Any, factors: Any, seed: Any, examples: int) -> tuple[np.ndarray, list[np.ndarray], int]:
    """At most `examples` examples in random order: standardised codes [N, K]; the levels [N], whole numbers from 0, of
    each factor that varies in the first half; and the length of that half.
    """
    check_whole(4, examples=examples)
    codes, factors = _varying(codes, factors)
    chosen = np.random.default_rng(seed).permutation(len(codes))[:examples]
    half = len(chosen) // 2
    levels = [np.unique(factor, return_inverse=True)[1] for factor in factors[chosen].T]
    return _standard(codes[chosen]), [level for level in levels if len(np.unique(level[:half])) > 1], half


def battery(codes: Any, factors: Any, labels: Any, seed: Any) -> dict[str, float]:
    """The scores by name; those that do not fit the data or take minutes are left out, see `left_out`.

    A factor that equals the labels [N] has no order: its SAP is by accuracy, and is a score of its own. If codes or
    factors are not finite, there are no scores.
    """
    if not all(np.isfinite(values).all() for values in (np.asarray(codes), np.asarray(factors))):
        return {}
    codes, factors = _both(codes, factors)
    told = information(codes, factors)
    found = {f"mig (bins={BINS})": _mig(*told), f"modularity (bins={BINS})": _modularity(*told)}
    vary = [f for f in factors.T if (f != f[0]).any()]
    unordered = [f for f in vary if labels is not None and np.array_equal(f, labels)]
    ordered = [f for f in vary if labels is None or not np.array_equal(f, labels)]
    if ordered:
        found["sap (correlation)"] = sap(codes, np.stack(ordered, 1))
    slow, rare = _too_slow(codes.shape[1], factors), not recur(factors)
    if not slow:
        if unordered:
            found["sap (accuracy)"] = sap_accuracy(codes, np.stack(unordered, 1), seed)
        whole = dci(codes, factors, seed)._asdict()
        found |= {f"dci_{name} (trees={TREES})": value for name, value in whole.items()}
    if not slow and not rare:
        found["factor_vae_score"] = factor_vae_score(codes, factors, seed)
        found["beta_vae_score"] = beta_vae_score(codes, factors, seed)
        found["explicitness (softmax)"] = explicitness(codes, factors, seed)
        found[f"irs (quantile={QUANTILE})"] = irs(codes, factors)
    return found


def left_out(units: int, factors: Any) -> str:
    """The scores that `battery` leaves out for codes of so many units, and the reason; "" for none."""
    factors = np.asarray(factors)
    if why := _too_slow(units, factors):
        return f"DCI, explicitness, IRS and the scores by votes were left out: {why}"
    if not recur(factors):
        return "explicitness, IRS and the scores by votes were left out: they need factors whose values recur"
    return ""


def _too_slow(units: int, factors: np.ndarray) -> str:
    """The reason to leave out the scores that learn from examples; "" if there is none."""
    count, number = factors.shape
    if count < FEWEST or not (factors != factors[:1]).any():
        return f"{count} examples, or no factor that varies"
    if units * number > LARGEST:
        return f"{units} units and {number} factors take minutes; `evaluation.disentanglement` has them"
    return ""


def recur(factors: Any) -> bool:
    """Whether each factor has at most half as many levels as examples, so that examples share levels."""
    return all(2 * len(np.unique(factor)) <= len(factor) for factor in np.asarray(factors).T)


def _check_recur(factors: np.ndarray) -> None:
    """Raises ValueError for a factor whose values do not recur."""
    if not recur(factors):
        most = max(len(np.unique(factor)) for factor in factors.T)
        raise ValueError(
            f"a factor has {most} levels in {len(factors)} examples, and groups of one level are needed: put its "
            "values in bins first"
        )


def _alike(factors: np.ndarray) -> Iterator[Callable[[np.random.Generator, np.ndarray, int], np.ndarray]]:
    """For each factor, (rng, examples [M], n) -> [M, n]: for each example, n random examples of the same level."""
    _check_recur(factors)
    for factor in factors.T:
        _, level, count = np.unique(factor, return_inverse=True, return_counts=True)
        order, first = np.argsort(level, kind="stable"), np.cumsum(count) - count

        def alike(
            rng: np.random.Generator, examples: np.ndarray, n: int, of=(level, count, order, first)
        ) -> np.ndarray:
            level, count, order, first = of
            here = level[examples][:, None]
            return order[first[here] + (rng.random((len(examples), n)) * count[here]).astype(int)]

        yield alike


def _standard(x: np.ndarray) -> np.ndarray:
    """The columns scaled to mean 0 and variance 1; columns that do not vary become 0. [N, K] -> [N, K]."""
    x = np.asarray(x, np.float64)
    spread = x.std(0)
    return np.where(spread > 0, x - x.mean(0), 0) / np.where(spread > 0, spread, 1)


def _gap(scores: np.ndarray) -> np.ndarray:
    """The largest score of each column minus the second largest, or minus 0 if it has one only. [K, F] -> [F]."""
    ordered = np.sort(np.vstack([scores, np.zeros(scores.shape[1])]), axis=0)
    return ordered[-1] - ordered[-2]
