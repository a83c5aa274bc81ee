"""Reproducible measurements, side by side with what people would use instead; see README.md. Not in the wheel."""
