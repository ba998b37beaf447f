"""The brain of a whole head: found by networks that another package carries, on the scan's own grid."""
