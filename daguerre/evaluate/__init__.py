"""Measures of models: bounds for densities, two-sample measures for samples, pictures."""
