"""Values and decisions: no I/O, no async, no driver."""
