"""The systems that the paper compares CLMorph with, under the same contract."""
