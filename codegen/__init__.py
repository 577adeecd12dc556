"""mcugrad: from the description of a neural network to fixed-point C that learns."""

VERSION = "0.1.0"
