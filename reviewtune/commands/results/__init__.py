"""Commands that show the results of the last `dvc repro`."""
