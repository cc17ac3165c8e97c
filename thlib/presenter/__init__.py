"""The presenter: a synthetic person with exact landmarks, controls and pose, drawn from a seed."""
