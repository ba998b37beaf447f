"""The options of the command line, which need the standard library only: help is instant."""
