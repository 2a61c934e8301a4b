"""Documents: text that is read piece by piece, so that none of them need fit into memory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError

PIECE = 2**22
"""Bytes that are read at a time."""


@dataclass(frozen=True)
class Document:
    """A text that must not be torn apart between splits."""

    name: str
    size: int
    """Bytes of UTF-8."""
    origin: str
    """What tells, without reading it, whether it is the same as another time."""
    pieces: Callable[[], Iterator[str]]
    """Reads it from the start."""

    def digest(self) -> bytes:
        """A hash of the text."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece.encode())
        return digest.digest()


def document_of(name: str, text: str) -> Document:
    """A text in memory as a document."""
    return Document(name, len(text.encode()), hashlib.sha256(text.encode()).hexdigest(), lambda: iter([text]))


def read_document(path: Path, first: int = 0, stop: int | None = None) -> Document:
    """A file, or the bytes from ``first`` to ``stop`` of it, as a document."""
    state = path.stat()
    stop = state.st_size if stop is None else stop
    origin = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {first} {stop}"
    return Document(str(path), stop - first, origin, lambda: _pieces(path, first, stop))


def _pieces(path: Path, first: int, stop: int) -> Iterator[str]:
    """The text between two places of a file without byte order mark, cut at the ends of lines where there are any.

    Raises:
        UserError: The file is no UTF-8, or has been cut meanwhile.
    """
    rest = b""
    with open(path, "rb") as file:
        file.seek(first)
        place = first
        while place < stop:
            read = file.read(min(PIECE, stop - place))
            if not read:
                raise UserError(f"data: {str(path)!r} ends at byte {place}, not {stop}; it changed while it was read.")
            begin = place - len(rest)
            place += len(read)
            data = rest + read
            end = len(data) if place == stop else data.rfind(b"\n") + 1
            if end == 0:  # a line longer than a piece: cut it between two characters
                end = len(data)
                while end > len(data) - 4 and data[end - 1] & 0xC0 == 0x80:
                    end -= 1
                end -= data[end - 1] >= 0xC0
            rest = data[end:]
            try:
                text = data[:end].decode("utf-8")
                yield text.removeprefix("\ufeff") if begin == 0 else text
            except UnicodeDecodeError as error:
                raise UserError(
                    f"data: {str(path)!r} is no UTF-8 text: byte {begin + error.start} is {data[error.start]:#04x} "
                    f"({error.reason}). Convert it, such as with iconv -f LATIN1 -t UTF-8, or leave the file out."
                ) from error


def read_text_lines(path: Path) -> list[str]:
    """The lines of a file without their ends, be they those of Windows or not.

    Raises:
        UserError: The file is no UTF-8.
    """
    return lines_of("".join(read_document(path).pieces()))


def lines_of(text: str) -> list[str]:
    r"""The lines of a text without their ends; `str.splitlines` would also split at other characters.

    >>> lines_of("a\r\nb\n")
    ['a', 'b']
    """
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def text_files(
    path: Path, pattern: str, option: str = "data.init_args.path", hint: str = "Write another data.init_args.pattern."
) -> list[Path]:
    """A file alone, or those below a folder that match a pattern, by name.

    Args:
        path: The file or folder.
        pattern: Which files of a folder.
        option: What the user wrote the path behind.
        hint: What else can be written there.

    Raises:
        UserError: There are none.
    """
    if path.is_file():
        return [path]
    files = sorted(file for file in path.glob(pattern) if file.is_file())
    if not files:
        found = ", ".join(sorted(child.name for child in path.iterdir())[:5]) or "nothing"
        raise UserError(f"{option}: no file below {str(path)!r} matches {pattern!r}; it holds {found}. {hint}")
    return files


def distinct(documents: Iterable[Document]) -> tuple[list[Document], list[str]]:
    """The documents without exact copies of others, and the names of the copies."""
    seen: set[bytes] = set()
    kept, copies = [], []
    for document in documents:
        digest = document.digest()
        if digest in seen:
            copies.append(document.name)
        else:
            seen.add(digest)
            kept.append(document)
    return kept, copies


def character_boundary(path: Path, place: int) -> int:
    """The last place up to ``place`` at which a character of a UTF-8 file begins."""
    with open(path, "rb") as file:
        file.seek(max(0, place - 3))
        before = file.read(min(place, 3) + 1)
    if len(before) <= min(place, 3):
        return place  # the end of the file
    back = 0
    while back < len(before) - 1 and before[len(before) - 1 - back] & 0xC0 == 0x80:
        back += 1
    return place - back
