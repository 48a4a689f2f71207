"""Likelihoods, priors and distances."""
