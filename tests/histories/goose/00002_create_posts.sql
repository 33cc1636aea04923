-- +goose Up
CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES users (id), title TEXT NOT NULL);
CREATE INDEX posts_author ON posts (author);

-- +goose Down
DROP TABLE posts;
