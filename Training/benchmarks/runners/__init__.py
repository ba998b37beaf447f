"""One script for each system, run in a process (and, where packages clash, in a Python) of its own.

A script imports nothing of this project but ``runner`` beside it, which needs the standard library only. Its name
begins with ``run_``, so that it does not hide the package of the same name.
"""
