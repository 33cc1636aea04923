DROP TABLE person;
DROP TABLE team;
