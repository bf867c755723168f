"""Files made to harm: each is bounded in time and in memory, each is named, and its good neighbours are read.

What the formats themselves can hold (entities, depth, quotes) is tested beside their readers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard

from assistant.errors import CorpusError
from assistant.sources import find_sources, open_source
from assistant.sources.find import FIRST_BYTE_S

ROOT = Path(__file__).parent.parent
SECONDS = 60
"""A bomb without limits takes hours."""
MEGABYTES = 350
"""Greatest memory of the reading process; importing the readers takes about a fourth of it."""
READ = """
import json, resource, sys
from assistant.errors import CorpusError
from assistant.papers import Record
from assistant.sources import find_sources, open_source
done = []
for path in find_sources(json.load(sys.stdin)):
    for opened in open_source(path):
        titles, refused = [], []
        try:
            for item in opened.items:
                (titles.append(item.title) if isinstance(item, Record) else refused.append(item.reason))
        except CorpusError as error:
            refused.append(str(error))
        done.append([opened.name, titles[:9], refused[:9], len(refused)])
try:
    peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
json.dump([done, peak / 1024], sys.stdout)
"""


def read(*names: Path | str) -> dict[str, tuple[list[str], list[str]]]:
    """Read sources in a process of their own, within the bounds; return titles and reasons by name."""
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps([str(name) for name in names]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    sources, megabytes = json.loads(done.stdout)
    assert megabytes < MEGABYTES
    return {Path(name).name: (titles, refused) for name, titles, refused, _ in sources}


def line(title: str) -> bytes:
    return json.dumps({"title": title, "abstract": "We boil it."}).encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good file before and after whatever else comes into it."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(line("Before"))
    (folder / "z.jsonl").write_bytes(line("After"))
    return folder


def check(done: dict[str, tuple[list[str], list[str]]], *names: str) -> None:
    """Check that the good neighbours were read, and that each of the others was refused by its name."""
    assert done.pop("a.jsonl") == (["Before"], [])
    assert done.pop("z.jsonl") == (["After"], [])
    assert list(done) == list(names)
    for name, (_, refused) in done.items():
        assert refused and name in refused[-1], (name, refused)


def joined(pack: Callable[[bytes], bytes], filling: bytes) -> bytes:
    """Pack far more than is let in, by repeating a packed piece."""
    piece = filling * (2**24 // len(filling))
    return pack(line("First")) + pack(piece) * 64


@pytest.mark.parametrize(
    ("pack", "filling"),
    [
        (partial(gzip.compress, compresslevel=1), b"\0"),
        (bz2.compress, b"\0"),
        (partial(lzma.compress, preset=0), b"\0"),
        (zstandard.compress, b"\0"),
        (zstandard.compress, b"x"),
        (zstandard.compress, b"\n"),
    ],
    ids=["gz", "bz2", "xz", "zst", "zst of letters", "zst of lines"],
)
def test_a_bomb_is_stopped_and_what_came_before_it_kept(
    folder: Path, pack: Callable[[bytes], bytes], filling: bytes
) -> None:
    (folder / "bomb").write_bytes(joined(pack, filling))
    done = read(folder)
    assert done["bomb"][0] == ["First"]
    assert "unpacks to more than 200 times its size" in done["bomb"][1][-1]
    check(done, "bomb")


def test_a_bomb_in_a_zip_costs_no_other_member(folder: Path) -> None:
    with zipfile.ZipFile(folder / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jsonl", line("One"))
        with archive.open("bomb.jsonl", "w") as member:
            for _ in range(12):
                member.write(bytes(2**23))
        archive.writestr("2.jsonl", line("Two"))
    done = read(folder)
    assert done.pop("1.jsonl")[0] == ["One"] and done.pop("2.jsonl")[0] == ["Two"]
    check(done, "bomb.jsonl")


def test_members_of_a_zip_that_share_their_bytes_are_stopped_together(folder: Path) -> None:
    with zipfile.ZipFile(folder / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"Title\n" + b"x" * 2**25)
        archive.filelist *= 5_000
    done = read(folder)
    assert "its members unpack to too much" in done["b.zip"][1][0]
    assert done.pop("bomb")[1]
    check({name: each for name, each in done.items() if not name.startswith("bomb #")}, "b.zip")


def test_an_archive_in_itself_without_end_is_refused(folder: Path) -> None:
    whole = line("Deep")
    for _ in range(40):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("in.zip", whole)
        whole = out.getvalue()
    (folder / "b.zip").write_bytes(whole)
    done = read(folder)
    check(done, "in.zip")


def test_a_zip_with_too_many_members_is_read_up_to_the_limit(folder: Path) -> None:
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr("x", b"")
        archive.filelist *= 250_000
    done = read(folder)
    assert "its members are more than 100,000" in done["b.zip"][1][0]
    check({name: each for name, each in done.items() if not name.startswith("x")}, "b.zip")


def test_a_tar_whose_headers_announce_more_than_there_is_takes_no_memory(folder: Path) -> None:
    for n, kind in enumerate([tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE]):
        info = tarfile.TarInfo("x")
        info.size, info.type = 8**11 - 1, kind
        with gzip.open(folder / f"t{n}", "wb", 1) as out:
            out.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(20):
                out.write(os.urandom(2**20))
    done = read(folder)
    assert done.pop("x")[1]
    assert {name for name in done if name.startswith("t")} <= {"t0", "t1", "t2", "t3"}
    for name in [name for name in done if name.startswith("t")]:
        assert done.pop(name)[1]
    check(done)


@pytest.mark.parametrize(
    "name", ["../../out.jsonl", "/tmp/out.jsonl", "..\\out.jsonl", "a/../../out.jsonl", "\x1b[2J\n"]
)
def test_a_member_whose_name_leads_outside_is_read_and_written_nowhere(folder: Path, name: str) -> None:
    with zipfile.ZipFile(folder / "b.zip", "w") as archive:
        archive.writestr(name, line("Evil"))
    info = tarfile.TarInfo(name)
    info.size = len(line("Evil"))
    with tarfile.open(folder / "c.tar", "w") as archive:
        archive.addfile(info, io.BytesIO(line("Evil")))
    before = set(folder.parent.rglob("*"))
    done = read(folder)
    assert set(folder.parent.rglob("*")) == before
    (shown,) = [each for each in done if each not in {"a.jsonl", "z.jsonl"}]
    assert done.pop(shown) == (["Evil"], [])
    assert shown.isprintable() and ".." not in Path(shown).parts
    check(done)


def test_a_line_of_300_megabytes_is_passed_over(folder: Path) -> None:
    with (folder / "long.jsonl").open("wb") as out:
        out.write(line("First") * 2_000)
        out.write(b'{"title": "')
        out.seek(300 * 2**20, io.SEEK_CUR)  # a hole in the file, read as NUL
        out.write(b'", "abstract": "x"}\n' + line("Last"))
    with (folder / "long.txt").open("wb") as out:
        out.write(b"A title\n" + b"An abstract of it. " * 40 + b"\n")
        for _ in range(300):
            out.write(b"x" * 2**20)
        out.write(b"\nThe next\n" + b"An abstract of it. " * 40 + b"\n")
    done = read(folder)
    titles, refused = done.pop("long.jsonl")
    assert titles[0] == "First" and refused
    assert done.pop("long.txt") == (
        ["A title", "The next"],
        ["the line is longer than 2,400,000 bytes, too long for a record"],
    )
    check(done)


def test_nul_characters_cost_their_own_record_alone(folder: Path) -> None:
    (folder / "nul.jsonl").write_bytes(line("One") + b'{"title": "a\0b", "abstract": "c"}\n' + line("Two"))
    (folder / "nuls.jsonl").write_bytes(bytes(100_000))
    done = read(folder)
    titles, refused = done.pop("nul.jsonl")
    assert (titles[0], titles[-1]) == ("One", "Two") and len(titles) + len(refused) == 3
    check(done, "nuls.jsonl")


def test_random_bytes_are_refused_under_every_first_bytes(folder: Path) -> None:
    marks = [
        b"",
        b"\x1f\x8b\x08",
        b"BZh91AY&SY",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"\xff\xfe",
    ]
    for n, mark in enumerate(marks):
        (folder / f"r{n}").write_bytes(mark + os.urandom(50_000))
    done = read(folder)
    named = [name for name in done if name not in {"a.jsonl", "z.jsonl"}]
    assert len(named) >= len(marks) - 1
    for name in named:
        assert done[name][1] and not done.pop(name)[0]
    check(done)


def test_pipes_sockets_devices_and_loops_of_links_in_a_folder_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "pipe")
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        (folder / "device").symlink_to("/dev/zero")
        (folder / "gone").symlink_to("nowhere")
        (folder / "loop").symlink_to("loop")
        (folder / "up").symlink_to("..")
        done = read(folder)
    assert "it is a device" in done["device"][1][0] and "it is a socket" in done["socket"][1][0]
    assert f"nothing was written to it for {FIRST_BYTE_S} s" in done["pipe"][1][0]
    check(done, "device", "gone", "loop", "pipe", "socket")


def test_a_pipe_that_is_closed_without_a_word_is_empty(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    thread = threading.Thread(target=lambda: (folder / "pipe").write_bytes(b""))
    thread.start()
    done = read(folder)
    thread.join()
    assert "is empty" in done["pipe"][1][0]
    check(done, "pipe")


def test_what_must_not_be_read_is_refused() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for path in ("a.jsonl", "locked.jsonl", "sub/x.jsonl", "z.jsonl"):
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(line(path))
        for path in ("locked.jsonl", "sub"):
            (folder / path).chmod(0)
        is_root = os.geteuid() == 0
        try:
            if is_root:  # who may read everything
                os.seteuid(65_534)
            opened = [each for path in find_sources([name]) for each in open_source(path)]
            assert [Path(each.name).name for each in opened] == ["a.jsonl", "locked.jsonl", "sub", "z.jsonl"]
            for each, reason in ((opened[1], "Permission denied"), (opened[2], "a folder that cannot be listed")):
                with pytest.raises(CorpusError, match=reason):
                    next(each.items)
        finally:
            if is_root:
                os.seteuid(0)
            (folder / "sub").chmod(stat.S_IRWXU)


def test_names_that_cannot_be_printed_are_read_and_shown_escaped(folder: Path) -> None:
    for name in [b"b\nc\x1b[2J.jsonl", b"d\xff.jsonl", "e\u202etxt.jsonl".encode()]:
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(line("Odd"))
    done = read(folder)
    for name in ["b\\nc\\x1b[2J.jsonl", "d\\udcff.jsonl", "e\\u202etxt.jsonl"]:
        assert done.pop(name) == (["Odd"], [])
    check(done)


def test_a_folder_in_place_of_a_file_and_folders_without_end_are_no_harm(folder: Path) -> None:
    deep = folder / "m"
    for _ in range(500):
        deep /= "m"
    deep.mkdir(parents=True)
    (deep / "x.jsonl").write_bytes(line("Deep"))
    done = read(folder)
    assert done.pop("x.jsonl") == (["Deep"], [])
    check(done)


def zip_directory(size: int) -> bytes:
    """A zip whose end announces a list of members of so many bytes."""
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 0, zlib.crc32(b""), 0, 0, 1, 0) + b"x"
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, size, len(local), 0)
    return local + bytes(size) + end


def test_a_zip_with_a_huge_list_of_members_takes_no_memory(folder: Path) -> None:
    (folder / "b.zip").write_bytes(zip_directory(400 * 2**20))
    done = read(folder)
    assert "list of its members is missing or damaged (it would have" in done["b.zip"][1][0]
    assert done.pop("x")[1]
    check(done, "b.zip")


def test_any_change_of_an_archive_ends_in_refusals_alone(tmp_path: Path) -> None:
    def whole(kind: str) -> bytes:
        out = io.BytesIO()
        if kind == "zip":
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                for n in range(3):
                    archive.writestr(f"{n}.jsonl", line(f"{n}"))
        else:
            with tarfile.open(fileobj=out, mode=f"w:{kind}") as tar:
                for n in range(3):
                    info = tarfile.TarInfo(f"{n}.jsonl")
                    info.size = len(line(f"{n}"))
                    tar.addfile(info, io.BytesIO(line(f"{n}")))
        return out.getvalue()

    names: list[Any] = []
    for kind in ("zip", "", "gz", "xz"):
        good = whole(kind)
        for n in range(0, min(len(good), 1_200), 7):
            names.append(tmp_path / f"{kind}{n}")
            names[-1].write_bytes(good[:n] + bytes([good[n] ^ (1 << n % 8)]) + good[n + 1 :])
    assert read(*names)
