"""How fast the package is, beside its floor and its rivals: ``python -m tests.benchmarks --help``."""
