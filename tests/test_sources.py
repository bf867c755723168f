"""From a name on the command line to what is read: finding, opening, unpacking, decoding."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import zstandard

from assistant.errors import CorpusError
from assistant.papers import Record, Rejected
from assistant.sources import find_sources, open_source
from assistant.sources.content import LINE_BYTES, Content

ROOT = Path(__file__).parent.parent


@dataclass
class Read:
    """What one opened thing gave."""

    name: str
    key: str
    form: str
    titles: list[str]
    refused: list[str]
    """Reasons, that of a CorpusError last."""


def read(path: Path, form: str | None = None) -> list[Read]:
    """Read a source to its end."""
    done = []
    for opened in open_source(path, form):
        each = Read(opened.name, opened.key, opened.form, [], [])
        done.append(each)
        try:
            for item in opened.items:
                if isinstance(item, Record):
                    each.titles.append(item.title)
                else:
                    assert isinstance(item, Rejected)
                    each.refused.append(item.reason)
        except CorpusError as error:
            each.refused.append(str(error))
    return done


def read_one(path: Path) -> Read:
    (only,) = read(path)
    return only


def lines(*numbers: int, n_bytes: int = 40) -> bytes:
    """Records as JSON lines, which do not pack well."""
    return b"".join(
        json.dumps({"title": f"Kettle {n}", "abstract": f"We boil it. {os.urandom(n_bytes).hex()}"}).encode() + b"\n"
        for n in numbers
    )


def titles(*numbers: int) -> list[str]:
    return [f"Kettle {n}" for n in numbers]


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": partial(lzma.compress, preset=0),
    "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
packers = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


# ----- finding


def test_a_folder_is_read_with_the_folders_in_it_in_order_and_without_hidden_files(tmp_path: Path) -> None:
    names = ["b/2.txt", "a.txt", "c.txt", "b/1.txt", ".hidden", "b/.git/x", "README.md", "b/README", "b/c/deep.txt"]
    for name in names:
        write(tmp_path / "in" / name, b"x")
    found = [str(path.relative_to(tmp_path / "in")) for path in find_sources([str(tmp_path / "in")])]
    assert found == ["a.txt", "b/1.txt", "b/2.txt", "b/c/deep.txt", "c.txt"]


def test_links_are_followed_and_loops_of_them_end(tmp_path: Path) -> None:
    write(tmp_path / "in/a/1.txt", b"x")
    write(tmp_path / "far/2.txt", b"x")
    (tmp_path / "in/a/up").symlink_to(tmp_path / "in")
    (tmp_path / "in/b").symlink_to(tmp_path / "in/a")
    (tmp_path / "in/far").symlink_to(tmp_path / "far")
    (tmp_path / "in/self").symlink_to(tmp_path / "in/self")
    found = [str(path.relative_to(tmp_path / "in")) for path in find_sources([str(tmp_path / "in")])]
    assert found == ["a/1.txt", "far/2.txt", "self"]
    assert "symbolic links" in read_one(tmp_path / "in/self").refused[0]
    globbed = find_sources([f"{tmp_path}/in/**/*.txt"])
    assert tmp_path / "in/a/1.txt" in globbed and len(globbed) == 1


def test_a_glob_is_expanded_and_each_file_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["a.txt", "b.txt", "b/c.txt", "b/d.csv", ".e.txt"]:
        write(tmp_path / "in" / name.replace("b/", "sub/"), b"x")
    monkeypatch.chdir(tmp_path)
    found = find_sources(["in/b.txt", "in/*.txt", f"{tmp_path}/in/a.txt", "in/**/*.txt", "in"])
    assert [str(path) for path in found] == ["in/b.txt", "in/a.txt", "in/sub/c.txt", "in/sub/d.csv"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a[1]*.txt", b"x")
    assert find_sources([str(file)]) == [file]


@pytest.mark.parametrize("name", ["empty", "empty/*.txt", "a**b/*"])
def test_a_folder_or_glob_without_files_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError) as caught:
        find_sources([f"{tmp_path}/{name}"])
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["missing.txt", "~nobody-of-this-name/x", "x" * 5000, "a\0b"])
def test_a_name_of_nothing_is_refused_when_it_is_opened(name: str) -> None:
    (path,) = find_sources([name])
    only = read_one(path)
    assert only.form == "unknown" and not only.titles and len(only.refused) == 1
    assert only.refused[0].startswith("cannot read ")


def test_a_dash_is_standard_input_and_a_file_of_that_name_is_not(tmp_path: Path) -> None:
    assert find_sources(["-", "-"]) == [Path("-")]
    write(tmp_path / "-", lines(1))
    assert find_sources(["./-"]) == [tmp_path / "-"]


# ----- opening


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_read(*, packed: bool) -> None:
    script = (
        "from pathlib import Path; from assistant.sources import open_source\n"
        "for o in open_source(Path('-')): print(o.name, o.key, [r.title for r in o.items])"
    )
    given = PACKERS["zst"](lines(1, 2)) if packed else lines(1, 2)
    done = subprocess.run([sys.executable, "-c", script], input=given, capture_output=True, cwd=ROOT, timeout=60)
    assert done.stdout.decode().strip() == "- - ['Kettle 1', 'Kettle 2']", done.stderr.decode()


def test_a_pipe_of_the_shell_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    content = lines(*range(3_000))

    def fill() -> None:
        with os.fdopen(writer, "wb") as out:
            out.write(content)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        assert read_one(Path(f"/dev/fd/{reader}")).titles == titles(*range(3_000))
    finally:
        thread.join()
        os.close(reader)


def test_a_named_pipe_waits_for_its_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(lines(1)))
    thread.start()
    assert read_one(pipe).titles == ["Kettle 1"]
    thread.join()


def test_the_key_of_a_file_is_its_real_path_whatever_it_is_called(tmp_path: Path) -> None:
    file = write(tmp_path / "real.jsonl", lines(1))
    (tmp_path / "link").symlink_to(file)
    (opened,) = open_source(tmp_path / "link")
    assert (opened.name, opened.key) == (str(tmp_path / "link"), str(file.resolve()))


@pytest.mark.parametrize("content", [b"", b"\n \r\n"])
@pytest.mark.parametrize("form", [None, "jsonl"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes, form: str | None) -> None:
    (only,) = read(write(tmp_path / "none.txt", content), form)
    assert "none.txt: the file is empty" in only.refused[0]


@pytest.mark.parametrize("content", [b"%PDF-1.7 " + bytes(range(256)) * 9, b"Rar!\x1a\x07\x01\0" + bytes(900)])
def test_what_cannot_be_read_is_called_by_its_name(tmp_path: Path, content: bytes) -> None:
    only = read_one(write(tmp_path / "x", content))
    assert "it is a PDF" in only.refused[0] or "it is a RAR archive" in only.refused[0]


# ----- unpacking


@packers
def test_a_packed_file_is_read_as_what_it_holds(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    only = read_one(write(tmp_path / "some.data", pack(lines(*range(500)))))
    assert only.titles == titles(*range(500)) and not only.refused
    assert (only.name, only.key) == (str(tmp_path / "some.data"), str(tmp_path / "some.data"))


@packers
def test_packed_files_joined_into_one_are_one(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    joined = b"".join(pack(lines(n)) for n in range(50)) + bytes(512)
    assert read_one(write(tmp_path / "x", joined)).titles == titles(*range(50))


def test_a_skippable_frame_of_zstd_is_skipped(tmp_path: Path) -> None:
    frame = b"\x5e\x2a\x4d\x18\x04\0\0\0abcd"
    joined = frame + PACKERS["zst"](lines(1)) + frame + PACKERS["zst"](lines(2))
    assert read_one(write(tmp_path / "x", joined)).titles == titles(1, 2)


@packers
def test_of_a_cut_file_what_came_before_is_kept_and_the_cut_told_once(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(lines(*range(5_000), n_bytes=200))
    only = read_one(write(tmp_path / "cut.gz", packed[: len(packed) * 2 // 3]))
    assert only.titles == titles(*range(len(only.titles))) and len(only.titles) > 1_500
    *fragment, reason = only.refused
    assert len(fragment) <= 1
    assert "cut.gz" in reason and "is cut short after" in reason and "get the file again" in reason


@packers
def test_of_a_file_damaged_inside_what_came_before_is_kept(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    packed = bytearray(pack(lines(*range(5_000), n_bytes=200)))
    place = len(packed) * 2 // 3
    packed[place : place + 64] = os.urandom(64)
    only = read_one(write(tmp_path / "bad", bytes(packed)))
    assert only.titles[:1_500] == titles(*range(1_500))
    assert "is damaged (" in only.refused[-1] and "unpacked bytes" in only.refused[-1]


@packers
def test_what_follows_packed_data_and_is_none_is_told(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    only = read_one(write(tmp_path / "x", pack(lines(1)) + b"something else, which nobody packed"))
    assert only.titles == ["Kettle 1"]
    assert "followed by something else" in only.refused[0]


@packers
def test_a_header_alone_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    only = read_one(write(tmp_path / "x", pack(lines(1))[:12]))
    assert not only.titles and "is cut short" in only.refused[0]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_the_members_of_a_zip_are_sources_of_their_own(tmp_path: Path, method: int) -> None:
    members = {"a/1.jsonl": lines(1, 2), "2.jsonl": lines(3), ".DS_Store": b"\0\1", "__MACOSX/._2.jsonl": b"\0"}
    one, two = read(write(tmp_path / "dump.zip", zipped(members, method)))
    assert (one.titles, two.titles) == (titles(1, 2), titles(3))
    assert one.name == one.key == f"{tmp_path}/dump.zip/a/1.jsonl"


def test_a_zip_written_as_a_stream_is_read(tmp_path: Path) -> None:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

    out = Unseekable()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jsonl", lines(1))
        archive.writestr("2.jsonl", lines(2))
    whole = out.getvalue()
    assert [each.titles for each in read(write(tmp_path / "s.zip", whole))] == [titles(1), titles(2)]
    cut = read(write(tmp_path / "t.zip", whole[: whole.index(b"PK\x01\x02")]))
    assert [each.titles for each in cut] == [titles(1), titles(2), []]


@pytest.mark.parametrize("pack", [None, *PACKERS.values()], ids=["plain", *PACKERS])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_the_members_of_a_tar_are_sources_of_their_own(
    tmp_path: Path, pack: Callable[[bytes], bytes] | None, form: int
) -> None:
    long = "folder/" + "n" * 95 + "/papers.jsonl"
    whole = tarred({"./1.jsonl": lines(1, 2), long: lines(3), "._1.jsonl": b"\0"}, form)
    one, two = read(write(tmp_path / "dump.tar", pack(whole) if pack else whole))
    assert (one.titles, two.titles) == (titles(1, 2), titles(3))
    assert (one.name, two.name) == (f"{tmp_path}/dump.tar/1.jsonl", f"{tmp_path}/dump.tar/{long}")


def test_what_is_packed_in_an_archive_is_unpacked(tmp_path: Path) -> None:
    inner = zipped({"deep.jsonl": lines(4), "deep.jsonl.zst": PACKERS["zst"](lines(5))})
    members = {"1.gz": gzip.compress(lines(1)), "in.zip": inner, "in.tar.gz": gzip.compress(tarred({"t": lines(6)}))}
    done = read(write(tmp_path / "all.zip", zipped(members)))
    assert [each.titles for each in done] == [titles(1), titles(4), titles(5), titles(6)]
    assert done[1].name == f"{tmp_path}/all.zip/in.zip/deep.jsonl"


def test_what_is_packed_too_many_times_over_is_refused(tmp_path: Path) -> None:
    whole = lines(1)
    for _ in range(5):
        whole = gzip.compress(whole)
    assert "more than 4 times over" in read_one(write(tmp_path / "x", whole)).refused[0]


@pytest.mark.parametrize("name", ["[Content_Types].xml", "mimetype"])
def test_an_office_document_is_no_archive(tmp_path: Path, name: str) -> None:
    whole = zipped({"docProps/app.xml": b"<x/>", "xl/worksheets/sheet1.xml": b"<y/>", name: b"<z/>"})
    only = read_one(write(tmp_path / "book.xlsx", whole))
    assert only.name == f"{tmp_path}/book.xlsx" and only.refused
    nested = read(write(tmp_path / "both.zip", zipped({"1.jsonl": lines(1), "book.xlsx": whole})))
    assert [each.name.removeprefix(f"{tmp_path}/") for each in nested] == ["both.zip/1.jsonl", "both.zip/book.xlsx"]


def test_a_bad_member_costs_no_good_one(tmp_path: Path) -> None:
    members = {"1": lines(1), "2": b"", "3": bytes(range(256)) * 40, "4": gzip.compress(lines(4))[:-9], "5": lines(5)}
    for whole in (zipped(members), tarred(members), gzip.compress(tarred(members))):
        done = read(write(tmp_path / "x", whole))
        assert [each.titles for each in done] == [titles(1), [], [], titles(4), titles(5)]
        assert [len(each.refused) for each in done] == [0, 1, 1, 1, 0]
        assert [each.form for each in done][1:3] == ["unknown", "unknown"]


def test_a_damaged_member_of_a_zip_is_told_and_the_others_read(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        whole = bytearray(zipped({"1": lines(*range(400)), "2": lines(7)}, method))
        place = 5_000
        whole[place] ^= 0xFF
        one, two = read(write(tmp_path / "x.zip", bytes(whole)))
        assert one.titles[:20] == titles(*range(20)) and "/1 to its end" in one.refused[-1]
        assert two.titles == titles(7)


def test_of_a_cut_zip_the_members_that_are_there_are_read(tmp_path: Path) -> None:
    whole = zipped({"1": lines(1), "2": lines(*range(900))})
    one, two, all_ = read(write(tmp_path / "x.zip", whole[: len(whole) // 2]))
    assert one.titles == titles(1)
    assert two.titles[:100] == titles(*range(100)) and "cut short" in two.refused[-1]
    assert "list of its members is missing" in all_.refused[0]


def test_of_a_cut_tar_the_members_that_are_there_are_read(tmp_path: Path) -> None:
    whole = tarred({"1": lines(1), "2": lines(*range(900))})
    for cut in (whole[:40_000], gzip.compress(whole)[:20_000]):
        one, two = read(write(tmp_path / "x.tar", cut))
        assert one.titles == titles(1)
        assert two.titles[:100] == titles(*range(100)) and "cut short" in two.refused[-1]


def test_after_a_damaged_place_of_a_tar_the_next_member_is_found(tmp_path: Path) -> None:
    whole = bytearray(tarred({str(n): lines(n) for n in range(4)}))
    whole[1024 + 20 : 1024 + 200] = os.urandom(180)  # the header of the second
    done = read(write(tmp_path / "x.tar", bytes(whole)))
    assert [each.titles for each in done] == [titles(0), [], titles(2), titles(3)]
    assert "damaged between its members" in done[1].refused[0]


def test_links_and_encrypted_members_are_refused_by_name(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("link.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        info = tarfile.TarInfo("1.jsonl")
        info.size = len(good := lines(1))
        archive.addfile(info, io.BytesIO(good))
    refused, kept = read(write(tmp_path / "x.tar", out.getvalue()))
    assert "link.jsonl: it is a link" in refused.refused[0] and kept.titles == titles(1)

    linked = zipfile.ZipInfo("link.jsonl")
    linked.external_attr = 0o120777 << 16
    with zipfile.ZipFile(out := io.BytesIO(), "w") as zip_archive:
        zip_archive.writestr(linked, "/etc/passwd")
        zip_archive.writestr("secret", lines(2))
        zip_archive.writestr("1.jsonl", lines(1))
    whole = bytearray(out.getvalue())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        second = whole.index(mark, whole.index(mark) + 4)
        whole[second + offset] |= 1
    link_, secret, kept = read(write(tmp_path / "x.zip", bytes(whole)))
    assert "it is a link" in link_.refused[0] and "secret: it is encrypted" in secret.refused[0]
    assert kept.titles == titles(1)


def test_an_archive_without_files_is_refused(tmp_path: Path) -> None:
    for whole in (zipped({}), zipped({"folder/": b""}), tarred({".hidden": b"x"})):
        assert "no file is in it" in read_one(write(tmp_path / "x", whole)).refused[0]


# ----- decoding


TEXT = (
    '{"title": "Über naïve Töpfe", "abstract": "Łódź measures 3 µm – “so”."}\n{"title": "Zwei", "abstract": "Σ b."}\n'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_decoded_by_its_mark_or_by_its_looks(tmp_path: Path, encoding: str, end: str) -> None:
    for mark in ("\ufeff", "") if "32" not in encoding else ("\ufeff",):  # UTF-32 without a mark is met nowhere
        file = write(tmp_path / "x", (mark + TEXT.replace("\n", end)).encode(encoding))
        assert read_one(file).titles == ["Über naïve Töpfe", "Zwei"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "Müller und Söhne: naïve Töpfe"),
        ("cp1252", "Kessel – “groß” und €"),
        ("gb18030", "水壶烧开的时间研究，我们报告了结果"),
        ("cp1251", "Мы измеряем время кипения чайника"),
        ("euc_kr", "주전자가 끓는 데 걸리는 시간을 측정하고 보고한다"),
    ],
)
def test_text_in_an_older_encoding_is_read(encoding: str, text: str) -> None:
    content = Content("x", io.BytesIO(f"{text}\n".encode(encoding) * 3))
    assert [line for _, line in content.lines()] == [f"{text}\n"] * 3


def test_encodings_mixed_in_one_file_are_told_apart(tmp_path: Path) -> None:
    records = [("utf-8", "Größe é"), ("cp1252", "Größe – é"), ("utf-8", "水壶"), ("latin-1", "ÿ"), ("utf-8-sig", "é")]
    whole = b"".join(
        json.dumps({"title": title, "abstract": "It boils."}, ensure_ascii=False).encode(encoding) + b"\n"
        for encoding, title in records
    )
    assert read_one(write(tmp_path / "x", whole)).titles == [title for _, title in records]


def test_lines_keep_their_numbers_whatever_ends_them() -> None:
    content = Content("x", io.BytesIO(b"one\r\ntwo\rthree\n\nfive\x0c\x1c\xe2\x80\xa8still five"))
    assert list(content.lines()) == [
        (1, "one\n"), (2, "two\n"), (3, "three\n"), (4, "\n"), (5, "five\x0c\x1c\u2028still five"),
    ]  # fmt: skip


def test_a_line_is_whole_wherever_the_blocks_are_cut() -> None:
    wanted = [("é" * n + "x" * (n % 3)) for n in range(0, 200_000, 7_001)]
    content = Content("x", io.BytesIO("\r\n".join(wanted).encode()))
    assert [(line or "").rstrip("\n") for _, line in content.lines()] == wanted
    content = Content("x", io.BytesIO("\r\n".join(wanted).encode()))
    blocks = list(content.blocks())
    assert "".join(blocks) == "\n".join(wanted) and max(map(len, blocks)) <= 65_536


def test_a_line_too_long_is_passed_over_and_the_next_one_read() -> None:
    fits, too_long = "a" * (LINE_BYTES - 1), "b" * LINE_BYTES
    whole = f"{fits}\n{too_long}\nc\n{too_long}\nd\n{too_long}b"
    got = [(n, line and line[:2]) for n, line in Content("x", io.BytesIO(whole.encode())).lines()]
    assert got == [(1, "aa"), (2, None), (3, "c\n"), (4, None), (5, "d\n"), (6, None)]


def test_a_line_that_the_damage_cuts_is_no_line() -> None:
    def pieces() -> object:
        yield b"one\ntwo\nthr"
        raise OSError(5, "Input/output error")

    content, got = Content("x", pieces()), []  # type: ignore[arg-type]
    with pytest.raises(CorpusError, match="cannot read x to its end: Input/output error"):
        got.extend(content.lines())
    got = []
    content = Content("x", pieces())  # type: ignore[arg-type]
    with pytest.raises(CorpusError):
        for line in content.lines():
            got.append(line)
    assert got == [(1, "one\n"), (2, "two\n")]


def test_what_is_no_file_is_copied_to_one_and_the_copy_removed(tmp_path: Path) -> None:
    content = Content("x", io.BytesIO(b"12345"))
    with content.file() as path:
        assert path.read_bytes() == b"12345"
    assert not path.exists()
    real = write(tmp_path / "real", b"1")
    with real.open("rb") as stream, Content("x", stream, real).file() as path:
        assert path == real
    assert real.exists()
