"""Commands: train, evaluate and export, and what only experiments need."""
