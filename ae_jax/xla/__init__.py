"""Workarounds for the compiler XLA, most of them for CPU."""
