"""SQL text into statements and a checksum, in one pass.

Knows SQLite's tokens and where a statement ends; knows nothing of what a statement means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from wave_async.errors import InvalidScript

ALGORITHM = "w1"

# Said by what they are not: Python takes milliseconds to compile a range that leads beyond ASCII.
LETTER = r"[^\x00-@\[-^`{-\x7f]"
"""What a name may begin with: A-Z, a-z, _ and everything beyond ASCII."""
LETTER_OR_DIGIT = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
"""What a name may go on with: digits and $ too."""

# Linear in the length of the script: `'[^']*(?:''[^']*)*'` and not `'(?:[^']|'')*'`, which keeps a
# backtracking point per character. Numbers, blob literals and operators are one token each, so that
# two scripts of equal tokens mean the same: `1.e5` is not `1. e5`, `x'00'` is not `x '00'`.
_TOKEN = re.compile(
    rf"""
    (?:[ \t\n\f\r\ufeff]+|--[^\n]*|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)*
    (?:(?P<literal>[xX]?'[^']*(?:''[^']*)*'(?!')|"[^"]*(?:""[^"]*)*"(?!")|`[^`]*(?:``[^`]*)*`(?!`)
        |\[[^\]]*\])
    |(?P<word>(?![0-9]){LETTER_OR_DIGIT}+)
    |(?P<semicolon>;)
    |(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?{LETTER_OR_DIGIT}*)
    |(?P<open>['"`\[]|/\*)
    |(?P<other><=|>=|<>|<<|>>|!=|==|\|\||->>|->|.)|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)

_UNTERMINATED = {"'": "string", '"': "quoted name", "`": "quoted name", "[": "quoted name"}

# The automaton of SQLite's own complete.c (https://sqlite.org/src/file/src/complete.c): a semicolon
# inside CREATE TRIGGER ends the statement only after `; END`. White space never changes the state.
_START, _NORMAL, _EXPLAIN, _CREATE, _TRIGGER, _SEMICOLON, _END = range(7)
_KEYWORDS = {"explain": 1, "create": 2, "temp": 3, "temporary": 3, "trigger": 4, "end": 5}
_NEXT = {  # columns: semicolon, explain, create, temp, trigger, end, anything else
    _START: (_START, _EXPLAIN, _CREATE, _NORMAL, _NORMAL, _NORMAL, _NORMAL),
    _NORMAL: (_START, _NORMAL, _NORMAL, _NORMAL, _NORMAL, _NORMAL, _NORMAL),
    _EXPLAIN: (_START, _NORMAL, _CREATE, _NORMAL, _NORMAL, _NORMAL, _EXPLAIN),
    _CREATE: (_START, _NORMAL, _NORMAL, _CREATE, _TRIGGER, _NORMAL, _NORMAL),
    _TRIGGER: (_SEMICOLON, *[_TRIGGER] * 6),
    _SEMICOLON: (_SEMICOLON, *[_TRIGGER] * 4, _END, _TRIGGER),
    _END: (_START, *[_TRIGGER] * 6),
}
_OTHER = 6

CAPITALS = re.compile("[A-Z]+")
_BETWEEN = "\0"  # no token: no script has a NUL
_CHUNK = 8192


Token = tuple[str, str, int]
"""The kind of a token, its text, and where it ends."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement without its semicolon; `line`, where it begins, and `number` count from 1."""

    sql: str
    line: int
    number: int

    @property
    def first_line(self) -> str:
        """Its first line, for a message."""
        return self.sql.partition("\n")[0].rstrip()


@dataclass(frozen=True, slots=True)
class Script:
    """A script that was read: its statements in order, and its checksum."""

    statements: tuple[Statement, ...]
    checksum: str


def quoted_name(name: str) -> str:
    """Quote the name of a table or a column."""
    return '"' + name.replace('"', '""') + '"'


def unquoted(token: str) -> str:
    """Return the name that a token stands for, quoted in any of SQLite's ways or not at all."""
    quote = token[0]
    if quote == "[":
        return token[1:-1]
    return token[1:-1].replace(quote * 2, quote) if quote in "\"`'" else token


def lowered(name: str) -> str:
    """Return a name in lower case as SQLite compares names, where É and é are two letters."""
    return name.lower() if name.isascii() else CAPITALS.sub(lambda m: m[0].lower(), name)


def parse(text: str, where: str) -> Script:
    """Split a script into its statements and compute its checksum.

    A byte order mark is dropped; CRLF, comments, quoted names, triggers and a missing last
    semicolon are all right, and empty statements are skipped. The checksum is
    `w1:<sha256 of the tokens>:<sha256 of the text>`, both over the text with CRLF as LF.
    Raises `InvalidScript`, with `where` and the line, for NUL, lone surrogates, and quotes or
    comments that are never closed.
    """
    text = text.removeprefix("\ufeff")
    _refuse_unencodable(text, where)
    tokens = sha256()
    statements = tuple(_statements(text, where, tokens.update))
    return Script(statements, f"{ALGORITHM}:{tokens.hexdigest()}:{text_digest(text)}")


def text_digest(text: str) -> str:
    """Return the last part of a script's checksum, which needs no reading of the script."""
    return sha256(_unix(text.removeprefix("\ufeff")).encode(errors="surrogatepass")).hexdigest()


def tokens(sql: str) -> list[Token]:
    """Return the kind, the text and the end of each token; white space and comments are none.

    The kinds are `word`, `literal` (a string, a blob or a quoted name), `number`, `semicolon` and
    `other`; `open` is a quote or a comment that is never closed.
    """
    matches = _TOKEN.finditer(sql)
    return [(kind, match[kind], match.end()) for match in matches if (kind := match.lastgroup)]


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _refuse_unencodable(text: str, where: str) -> None:
    if (at := text.find("\0")) >= 0:
        raise InvalidScript(where, _line(text, at), "a NUL character; save the script as UTF-8")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = _line(text, error.start)
        raise InvalidScript(where, line, "a lone surrogate; save the script as UTF-8") from error


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _statements(text: str, where: str, digest: Callable[[bytes], None]) -> Iterator[Statement]:
    line, counted = 1, 0
    for number, (start, end) in enumerate(_spans(text, where, digest), 1):
        line += text.count("\n", counted, start)
        counted = start
        yield Statement(text[start:end], line, number)


def _spans(text: str, where: str, digest: Callable[[bytes], None]) -> Iterator[tuple[int, int]]:
    """Yield where each statement begins and ends; a last one needs no semicolon."""
    state, start, end = _START, -1, -1
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind is None:
            break
        token = match[kind]
        if kind == "open":
            what = _UNTERMINATED.get(token, "comment")
            raise InvalidScript(
                where, _line(text, match.start(kind)), f"a {what} that is never closed"
            )
        if state != _NORMAL or kind == "semicolon":
            state = _NEXT[state][_column(kind, token)]
        if state != _START:
            start = match.start(kind) if start < 0 else start
            end = match.end()
            tokens.append(_unix(token) if kind == "literal" else token)
        elif start >= 0:
            yield start, end
            start = -1
            tokens.append(_BETWEEN)
        if len(tokens) >= _CHUNK:
            _feed(digest, tokens)
    if start >= 0:
        yield start, end
        tokens.append(_BETWEEN)
    _feed(digest, tokens)


def _column(kind: str, token: str) -> int:
    if kind == "semicolon":
        return 0
    return _KEYWORDS.get(token.lower(), _OTHER) if kind == "word" else _OTHER


def _feed(digest: Callable[[bytes], None], tokens: list[str]) -> None:
    if tokens:
        digest(("\0".join(tokens) + "\0").encode())
        tokens.clear()
