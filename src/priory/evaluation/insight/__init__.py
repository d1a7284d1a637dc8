"""What a model says of its data: density, outliers, balance."""
