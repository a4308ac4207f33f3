"""Worker processes. Each is a script for an environment in which this project is not installed."""
