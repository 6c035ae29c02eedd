"""The paper's claims about HesScale itself, measured again: ``hesrl paper fig2|table1|fig8``."""
