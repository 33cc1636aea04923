"""The version of this package: of the wheel, of `wave --version` and of what is recorded."""

VERSION = "0.1.0"
