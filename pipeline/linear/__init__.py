"""What a linear model of simple descriptors reaches, to compare a trained network with."""
