"""Faults in great number: ``make torture``, whose short form is in the tests."""
