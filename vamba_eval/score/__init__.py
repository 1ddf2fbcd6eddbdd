"""Responses to values, and values to numbers with their uncertainty."""
