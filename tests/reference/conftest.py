"""What pytest must not import here: these run inside the reference's environment, where torch is."""

collect_ignore_glob = ["run_*.py"]
