"""Several volumes in time: one is segmented, the others follow by registration to it."""
