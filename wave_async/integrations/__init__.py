"""What joins this package to other people's tools; each module belongs to an extra."""
