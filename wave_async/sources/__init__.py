"""Files on disk, in a package or in a zip, of whatever tool, turned into `Migration` values."""
