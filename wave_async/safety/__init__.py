"""What is tried on another database before it is done to a real one; no migration starts here."""
