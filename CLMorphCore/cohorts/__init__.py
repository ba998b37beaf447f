"""Many scans with one model: which they are, where results go, who computes them, and what they tell together."""
