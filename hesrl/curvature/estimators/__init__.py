"""Hessian diagonals on demand, exact or by random vectors, to measure HesScale against."""
