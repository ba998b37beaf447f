"""CLMorph and its peers on the same pairs, files and threads: accuracy, regularity, time, memory."""
