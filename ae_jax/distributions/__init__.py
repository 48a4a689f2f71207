"""Distributions as records of pure functions: likelihoods of data, posteriors and priors of codes, divergences."""
