"""The only rooms that know SQLite; `connection.py` alone imports aiosqlite."""
