"""Autoencoders in JAX, every member of the family, as pure functions. See `ae_jax.core` for the vocabulary."""
