"""Maintenance that does not get in the way: slices, their pace, and the policy that asks for it."""
