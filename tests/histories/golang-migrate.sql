-- golang-migrate 4: the table of database/sqlite3/sqlite3.go and its one row
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE schema_migrations (version uint64,dirty bool);
INSERT INTO schema_migrations VALUES(2,0);
CREATE UNIQUE INDEX version_unique ON schema_migrations (version);
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES users (id), title TEXT NOT NULL);
CREATE INDEX posts_author ON posts (author);
COMMIT;
