"""Reinforcement learning: agents that learn from environments."""
