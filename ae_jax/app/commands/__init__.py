"""The commands as functions, one module a group of commands."""
