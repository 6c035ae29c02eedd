"""Armed parameters: ``backward()`` sets ``p.hess_diag``, and what that changes in PyTorch."""
