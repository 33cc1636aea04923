-- yoyo-migrations 9.0.0: apply
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE IF NOT EXISTS "yoyo_lock" ("locked" INT DEFAULT 1, "ctime" TIMESTAMP,"pid" INT NOT NULL,PRIMARY KEY ("locked"));
CREATE TABLE IF NOT EXISTS "_yoyo_log" (
            "id" VARCHAR(36),
            "migration_hash" VARCHAR(64),
            "migration_id" VARCHAR(255),
            "operation" VARCHAR(10),
            "username" VARCHAR(255),
            "hostname" VARCHAR(255),
            "comment" VARCHAR(255),
            "created_at_utc" TIMESTAMP,
            PRIMARY KEY ("id")
        );
INSERT INTO _yoyo_log VALUES('1514e548-e6ce-11f1-a1e8-02fc00000001','a7aed5628afe3938764e2c0910be7915ddf19652231fc0a44c46038aa916326c','0001_users','apply','root','localhost',NULL,'2026-11-22T23:40:21.655655');
INSERT INTO _yoyo_log VALUES('151c7506-e6ce-11f1-a1e8-02fc00000001','62043bb2f0fc9d13ac05a134d1127a16f1a8c403cfdf40a913a89baa986249c6','0002_posts','apply','root','localhost',NULL,'2026-11-22T23:40:21.703567');
CREATE TABLE IF NOT EXISTS "_yoyo_version" (
            "version" INT NOT NULL PRIMARY KEY,
            "installed_at_utc" TIMESTAMP
        );
INSERT INTO _yoyo_version VALUES(2,'2026-11-22 23:40:21.607972');
CREATE TABLE IF NOT EXISTS "_yoyo_migration" (
            "migration_hash" VARCHAR(64),
            "migration_id" VARCHAR(255),
            "applied_at_utc" TIMESTAMP,
            PRIMARY KEY ("migration_hash")
        );
INSERT INTO _yoyo_migration VALUES('a7aed5628afe3938764e2c0910be7915ddf19652231fc0a44c46038aa916326c','0001_users','2026-11-22T23:40:21.688222');
INSERT INTO _yoyo_migration VALUES('62043bb2f0fc9d13ac05a134d1127a16f1a8c403cfdf40a913a89baa986249c6','0002_posts','2026-11-22T23:40:21.717678');
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES users (id), title TEXT NOT NULL);
CREATE INDEX posts_author ON posts (author);
COMMIT;
