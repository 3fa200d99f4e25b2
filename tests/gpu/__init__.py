"""All that a GPU is to show, in one command of minutes: ``python -m tests.gpu --output FOLDER``."""
