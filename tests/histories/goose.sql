-- goose 3: the table of internal/dialects/sqlite3.go, its row 0 and one for each migration
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE goose_db_version (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	);
INSERT INTO goose_db_version VALUES(1,0,1,'2024-01-01 12:00:00');
INSERT INTO goose_db_version VALUES(2,1,1,'2024-01-01 12:00:00');
INSERT INTO goose_db_version VALUES(3,2,1,'2024-01-02 12:00:00');
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES users (id), title TEXT NOT NULL);
CREATE INDEX posts_author ON posts (author);
COMMIT;
