"""Runs in other people's formats and places."""
