ALTER TABLE entry DROP COLUMN written_at;
