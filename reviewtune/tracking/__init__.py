"""MLflow: open and describe runs, find them again, keep the project's own store in order."""
