"""Compiles the generated C with the host's compiler and runs it."""
