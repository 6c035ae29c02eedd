"""Random graphs beside a reference without hesrl; one seed is one graph."""
