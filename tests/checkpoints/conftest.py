"""These scripts run in the reference's environment."""

collect_ignore = ["make.py", "train_tokenizer.py"]
