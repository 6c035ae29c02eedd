"""Environments and what stands between them and an agent."""
