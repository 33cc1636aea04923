-- sqlx 0.9: the table of sqlx-sqlite/src/migrate.rs; the checksum is the SHA-384 of the file
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES(20240101120000,'create users','2024-01-01 12:00:00',1,X'9378e190639df961241b5a661bbfda7754e3247ad1e3f11bbf00346bce46c7f80b13d5df78e4fd035183e051281cfc2e',412001);
INSERT INTO _sqlx_migrations VALUES(20240102120000,'create posts','2024-01-02 12:00:00',1,X'672d442625632d90ddb329a1562a3ca74bb2fdf915d3c0a9518ff68eb9f619367193a45a2f937afc5884c67f967bcd5b',412002);
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES users (id), title TEXT NOT NULL);
CREATE INDEX posts_author ON posts (author);
COMMIT;
