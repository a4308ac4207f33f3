"""Click-confidence learning for recommenders."""
