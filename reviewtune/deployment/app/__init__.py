"""The service of `reviewtune serve-app`: the analyzer over HTTP, with a bounded queue, metrics and a log."""
