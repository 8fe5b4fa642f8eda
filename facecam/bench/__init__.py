"""Measures what each stage costs: `facecam bench`."""
