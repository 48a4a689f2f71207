"""The page of exact tests, with a table of claims and tolerances for each member; scripts/pages.py adds it to the site.

`EXACT` names the tests. Each row comes from the test itself: its name as a sentence, the loosest tolerance of its
comparisons, and whether numbers have 64 bits. tests/test_exactness.py checks that every member has a test, and that
every named test exists.
"""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
EXACT: dict[str, dict[str, tuple[str, ...]]] = {  # a member -> files of tests -> tests, without "test_"
    "autoencoder": {
        "test_algorithms": ("a_linear_autoencoder_finds_the_error_and_the_subspace_of_pca",),
        "test_info_vae": ("a_delta_posterior_without_a_weight_is_the_autoencoder_to_the_bit",),
    },
    "denoising": {"test_algorithms": ("the_best_linear_denoiser_is_the_wiener_filter",)},
    "sparse": {
        "test_algorithms": (
            "the_sparse_loss_is_twice_the_cost_of_the_ufldl_tutorial",
            "minibatches_of_the_sparse_loss_have_the_full_batch_gradient",
            "kl_of_a_minibatch_is_the_kl_of_its_mean",
        )
    },
    "contractive": {
        "test_algorithms": (
            "one_sigmoid_layers_contractive_penalty_has_a_closed_form",
            "the_exact_penalty_is_any_encoders_jacobian_and_hutchinson_estimates_it",
        ),
        "test_alive": ("a_contractive_loss_is_its_parts",),
    },
    "vae": {
        "test_algorithms": (
            "at_the_exact_posterior_every_importance_weight_is_the_likelihood_of_probabilistic_pca",
            "the_vaes_loss_is_its_parts",
        ),
        "test_disentangling": (
            "a_capacity_is_compared_with_the_mean_kl_of_the_batch",
            "no_capacity_is_the_plain_weight_and_about_a_capacity_the_pull_changes_its_sign",
        ),
        "test_latent": ("a_prior_that_begins_at_the_normal_one_gives_the_bound_of_a_plain_vae_and_learns",),
        "test_parity_bounds": ("the_vae_and_the_beta_vae_are_equal",),
    },
    "importance": {
        "test_importance": (
            "the_gradient_is_that_of_the_bound",
            "what_learns_through_the_draws_alone_has_the_same_mean",
            "at_the_posterior_every_bound_is_the_likelihood_and_the_model_learns_its_gradient",
            "groups_of_one_are_the_elbo_and_one_group_is_iwae",
            "piwae_teaches_the_model_as_iwae_and_the_encoder_as_miwae",
            "ciwae_is_linear_between_the_elbo_and_iwae",
        ),
        "test_parity_bounds": ("the_gradients_of_iwae_and_ciwae_are_equal_and_the_values_are_another",),
    },
    "beta_tc_vae": {
        "test_disentangling": (
            "stratified_weights_are_exact_in_the_mean_over_all_batches",
            "with_the_whole_set_as_batch_both_estimators_are_the_mean_posterior",
            "the_terms_telescope_and_constants_leave_the_gradient_alone",
        ),
        "test_latent": ("with_all_weights_one_beta_tc_descends_the_elbo_by_one_draw",),
        "test_parity_aggregate": ("weighted_beta_tc_is_equal_and_stratified_differs_by_the_stride_of_its_weights",),
    },
    "factor_vae": {
        "test_disentangling": (
            "the_critic_compares_one_half_of_the_batch_with_the_permuted_codes_of_the_other",
            "without_a_weight_the_model_learns_as_a_vae_and_each_player_leaves_the_other_alone",
        ),
        "test_parity_aggregate": ("factor_vae_is_equal_but_for_a_half_before_the_critics_loss",),
    },
    "dip_vae": {
        "test_disentangling": (
            "the_covariance_is_of_the_batch_with_one_over_b",
            "a_dip_loss_is_its_parts",
            "without_weights_dip_is_the_vae",
        )
    },
    "info_vae": {
        "test_info_vae": (
            "the_squared_mmd_is_unbiased",
            "a_weight_of_one_and_no_alpha_is_the_vae",
            "a_delta_posterior_without_a_weight_is_the_autoencoder_to_the_bit",
            "the_loss_is_its_parts_and_a_narrow_posterior_is_a_delta",
        ),
        "test_parity_aggregate": ("info_vae_and_wae_are_equal",),
    },
    "vamp": {
        "test_latent": (
            "a_vamp_prior_of_one_standard_component_is_the_normal_prior",
            "a_vamp_prior_encodes_pseudo_inputs_as_examples",
        )
    },
    "vq_vae": {
        "test_quantisers": (
            "moving_vectors_with_decay_zero_are_the_means_of_what_they_stand_for",
            "moving_averages_are_those_of_the_paper",
            "a_vector_without_use_does_not_move",
            "the_rotations_gradient_is_that_of_a_held_rotation",
            "the_gradient_of_rounded_numbers_is_that_of_the_bounded_ones",
            "entropies_of_signs_are_those_of_all_codes",
            "a_step_gives_the_encoder_the_decoders_gradient",
        )
    },
    "classifier": {
        "test_algorithms": ("labels_that_are_no_class_teach_nothing", "a_classifier_decodes_as_its_pretraining_did"),
    },
    "dec": {"test_clustering": ("dec_descends_the_gradient_of_its_paper",)},
    "vade": {
        "test_latent": (
            "vade_of_one_standard_component_is_the_vae",
            "the_bound_of_vade_is_that_of_its_clusters_one_by_one",
        )
    },
    "k_sparse": {
        "test_algorithms": (
            "exactly_the_k_largest_are_kept_even_of_equals",
            "a_k_sparse_step_is_the_papers_by_hand",
        )
    },
    "dictionary": {
        "test_dictionary": (
            "auxk_is_what_dead_units_leave_of_the_error_and_moves_them_alone",
            "a_step_turns_rows_by_the_gradient_across_them",
        ),
        "test_dictionary_forms": (
            "without_its_sparsity_each_form_is_a_relu",
            "the_april_form_cannot_be_evaded_by_longer_rows",
            "a_gated_loss_is_error_gates_and_their_reconstruction",
            "the_threshold_is_a_moving_mean_of_the_least_kept_and_starts_there",
            "matryoshka_with_one_prefix_is_batch_topk_and_a_prefix_teaches_its_own_units",
            "the_pseudo_gradients_of_jumprelu_are_those_of_the_paper",
            "a_transcoder_reads_its_inputs_and_gives_the_others",
        ),
    },
    "adversarial": {
        "test_algorithms": (
            "both_sides_of_a_game_descend_their_own_group_by_their_own_loss",
            "adversarial_samples_are_decoded_draws_of_the_prior",
        )
    },
    "adversarial_labels": {"test_algorithms": ("labels_that_are_no_class_teach_nothing",)},
    "adversarial_style": {"test_algorithms": ("a_style_is_decoded_with_the_label_that_was_told",)},
    "made": {
        "test_algorithms": (
            "the_probabilities_of_all_binary_vectors_sum_to_one",
            "the_likelihood_of_several_masks_is_the_mean_of_their_probabilities",
        )
    },
    "semantic_hashing": {"test_alive": ("a_hashing_loss_is_the_cross_entropy_of_decoded_bits",)},
    "rbm": {
        "test_rbm": (
            "free_energy_and_partition_function_are_sums_over_all_states",
            "gaussian_units_integrate_to_what_enumeration_of_the_other_side_gives",
            "pseudo_likelihood_is_the_sum_of_conditionals",
            "the_gradient_of_cd_is_the_difference_of_two_correlations",
            "updates_are_those_of_the_released_code",
            "the_gap_in_float64_against_finite_differences",
            "the_same_weights_in_scikit_learn_say_the_same",
        )
    },
}
COMPARISONS = {  # name of a comparison -> its default tolerance, relative and absolute
    "assert_allclose": (1e-7, 0.0),
    "approx": (1e-6, 0.0),
    "allclose": (1e-5, 1e-8),
    "check_grads": (1e-5, 1e-5),
    "same": (1e-12, 1e-12),  # tests/probes.py
    "close": (1e-10, 1e-12),  # tests/test_importance.py
}
BITS = ("assert_array_equal", "array_equal")


class Held(NamedTuple):
    """The claim of a test, and its tolerance."""

    claim: str  # the test's name as a sentence
    figure: str  # the loosest tolerance of its comparisons
    numbers: str  # float32 or float64
    file: str


@cache
def _parsed(file: str) -> tuple[ast.Module, str]:
    text = (ROOT / "tests" / f"{file}.py").read_text()
    return ast.parse(text), text


def _value(node: ast.expr) -> float | None:
    """A tolerance that is written as a number; None for one that is computed."""
    try:
        return float(ast.literal_eval(node))
    except (ValueError, TypeError):
        return None


def _tolerances(test: ast.FunctionDef, others: dict[str, ast.FunctionDef]) -> list[float | None]:
    """For each comparison, also those in helpers, the larger of its relative and absolute tolerance."""
    found: list[float | None] = []
    called = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)} & (set(others) - set(COMPARISONS))
    for node in (n for function in (test, *(others[name] for name in sorted(called))) for n in ast.walk(function)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        told = {k.arg: _value(k.value) for k in node.keywords if k.arg in ("rtol", "rel", "atol", "abs")}
        if name in BITS:
            found.append(0.0)
        elif name in COMPARISONS:
            relative, absolute = COMPARISONS[name]
            given = [told.get("rtol", told.get("rel", relative)), told.get("atol", told.get("abs", absolute))]
            if name == "approx" and "abs" in told and "rel" not in told:
                given = [told["abs"]]
            known = [value for value in given if value is not None]
            found.append(max(known) if len(known) == len(given) else None)
    return found


def held(file: str, name: str) -> Held:
    """The claim of a test, and its tolerance. Raises ValueError for a test that is missing or compares nothing."""
    tree, text = _parsed(file)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if (test := functions.get(f"test_{name}")) is None:
        raise ValueError(f"tests/{file}.py has no test_{name}: name the test that took its place in EXACT")
    found = _tolerances(test, functions)
    asserted = [node.test for node in ast.walk(test) if isinstance(node, ast.Assert)]
    if not found and not asserted:
        raise ValueError(f"test_{name} of tests/{file}.py compares no numbers: name another in EXACT")
    known = [value for value in found if value is not None]
    if not found:
        figure = f"`{ast.unparse(asserted[0])}`"
    elif len(known) < len(found):
        figure = "computed in the test"
    else:
        figure = f"{max(known):g}" if max(known) else "to the bit"
    source = ast.get_source_segment(text, test) or ""
    double = "enable_x64(True)" in source or 'usefixtures("float64")' in text
    return Held(name.replace("_", " "), figure, "float64" if double else "float32", file)


def page() -> str:
    """The page of the site, in Markdown."""
    lines = [
        "# Exact tests",
        "",
        "Tests compare each member with exact answers: closed forms, enumeration of all cases, a reduction to another",
        "member, or the code of others with the same weights and noise. A row is a test; its figure is the loosest",
        "relative or absolute tolerance of its comparisons. Beside these rows, the gradients of members that descend",
        "one loss agree with finite differences in float64 to 1e-6",
        "([`tests/test_algorithms.py`](../tests/test_algorithms.py)), and every member obeys the laws of",
        "[`tests/test_laws.py`](../tests/test_laws.py). The tests of parity run where pythae is installed.",
    ]
    for member, files in EXACT.items():
        lines += ["", f"## {member}", "", "| claim | tolerance | numbers | file |", "| --- | --: | --- | --- |"]
        for row in (held(file, name) for file, names in files.items() for name in names):
            link = f"[{row.file}](../tests/{row.file}.py)"
            lines.append(f"| {row.claim} | {row.figure} | {row.numbers} | {link} |")
    return "\n".join([*lines, ""])
