"""Workarounds for one compiler on one platform."""
