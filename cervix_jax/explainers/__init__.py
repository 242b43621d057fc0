"""Which pixels a score depends on: pure functions of a score function and images, and their use on predictors."""
