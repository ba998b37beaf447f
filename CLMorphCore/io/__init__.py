"""Every file format, read and written in one place: rightly, or refused in one line."""
