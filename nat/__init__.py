"""Negative-Aware Training: fine-tune agents on successful and failed trajectories, and find out whether it helps."""

__version__ = "0.1.0"
