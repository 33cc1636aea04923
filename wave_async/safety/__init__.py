"""Looking before touching: proofs, rehearsals, snapshots."""
