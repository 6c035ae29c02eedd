"""Nodes whose rule depends on more than their kind, such as a softmax that is written out."""
