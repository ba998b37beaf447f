"""Training without labels: the loop, its batches and what it minimises."""
