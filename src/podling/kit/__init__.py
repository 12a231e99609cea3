"""The bottom layer: what every other package may use. Each module does one thing."""
