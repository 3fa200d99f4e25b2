"""What pytest must not import here: these run inside the reference's environment, where torch is."""

collect_ignore = [
    *("run_torch.py", "run_reference.py", "run_documented_examples.py", "run_pipelines.py"),
    *("run_gradients.py", "run_tokenizer.py"),
]
