"""Without cosmic-ray there is nothing here to test."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("cosmic_ray") else ["mutants.py", "server.py", "test_mutants.py"]
