"""Scripts of the rivals' environment, which are not modules of this one."""

collect_ignore = ["rival_worker.py", "probe.py"]
