"""Registrations that are there already, measured."""
