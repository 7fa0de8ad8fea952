"""Installed plugins: found, validated, configured for a stage, and scaffolded."""
