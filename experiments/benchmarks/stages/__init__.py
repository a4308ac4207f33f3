"""What is compared: one file a stage, each with `comparisons(settings)`."""
