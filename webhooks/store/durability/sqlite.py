"""What a commit rests on with SQLite: the file system of its files, and the journal.

Sources: https://www.sqlite.org/wal.html (sections 1 and 5), https://www.sqlite.org/howtocorrupt.html
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from webhooks.database import Database
from webhooks.store.durability.records import Doubt

#: File systems that are memory: gone with the machine or the container.
_MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs", "hugetlbfs"))
#: The writable layer of a container: gone with it.
_LAYERS = frozenset(("overlay", "overlayfs", "aufs", "unionfs", "fuse-overlayfs", "fuse.fuse-overlayfs"))
#: File systems of other machines or of a host: their locks and shared memory do not hold between machines.
_REMOTE = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "afpfs", "ceph", "fuse.ceph", "glusterfs", "fuse.glusterfs", "lustre",
     "ncpfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.grpcfuse", "vboxsf", "vmhgfs", "fuse.vmhgfs-fuse",
     "virtiofs", "webdav", "davfs", "fuse.davfs2", "gfs2", "ocfs2")
)  # fmt: skip
#: Less room than this, or than this share of the disk, is worth a word.
LEAST_FREE_BYTES = 256 * 1024 * 1024
LEAST_FREE_SHARE = 0.02
#: Journal modes of SQLite in which a commit survives a crash.
_JOURNALS = frozenset(("wal", "delete", "truncate", "persist"))


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Where SQLite's files are, and what its connection does.

    kind: of the file system, "" when unknown.
    options: of its mount.
    is_mount: the file is mounted by itself.
    journal_apart: its journal is on another file system, or a link.
    names: hard links.
    free, size: of the file system, bytes.
    journal_mode, synchronous: as the connection answers.
    preload: of the environment (LD_PRELOAD).
    """

    path: str
    kind: str = ""
    options: frozenset[str] = frozenset()
    is_mount: bool = False
    journal_apart: bool = False
    names: int = 1
    free: int = 2**40
    size: int = 2**40
    journal_mode: str = "wal"
    synchronous: int = 2
    preload: str = ""


def of_files(facts: FileFacts) -> list[Doubt]:
    """What is doubtful about where SQLite's files are, the surest loss first.

    Sources: https://www.sqlite.org/wal.html (sections 1 and 5), https://www.sqlite.org/howtocorrupt.html
    """
    path = facts.path
    directory = os.path.dirname(path)
    doubts = []
    if facts.is_mount or facts.journal_apart:
        what = "is mounted by itself" if facts.is_mount else "has its journal on another file system"
        doubts.append(
            Doubt(
                "journal-apart",
                f"the database file {path!r} {what}, so the latest events, which are in {os.path.basename(path)}-wal, are not "
                f"beside it when it is mounted again; mount its whole directory {directory!r}",
                is_loss=True,
            )
        )
    if facts.journal_mode not in _JOURNALS:
        doubts.append(
            Doubt(
                "no-journal",
                f"SQLite keeps no journal on disk here (journal_mode is {facts.journal_mode}), so a crash loses or damages events; "
                "put the database on a local disk",
                is_loss=True,
            )
        )
    if facts.synchronous < 2:
        doubts.append(
            Doubt(
                "not-synced", "SQLite does not sync its commits (synchronous is not full); look at the build of SQLite"
            )
        )
    if "eatmydata" in facts.preload:
        doubts.append(
            Doubt(
                "fsync-off",
                "LD_PRELOAD holds libeatmydata, which makes syncing do nothing: power loss loses events; take it out",
            )
        )
    doubts += _of_file_system(facts, directory)
    if facts.names > 1:
        doubts.append(
            Doubt(
                "several-names",
                f"the database file {path!r} has {facts.names} names (hard links), each with a journal of its own; a program that opens "
                "another name damages it: keep one name",
            )
        )
    if facts.free < LEAST_FREE_BYTES or facts.free < LEAST_FREE_SHARE * facts.size:
        doubts.append(
            Doubt(
                "disk-nearly-full",
                f"{facts.free / 2**20:,.0f} MiB are left on the disk of {path!r}; when it is full, events are answered 503: make room",
                f"df -h {shlex.quote(directory)}",
            )
        )
    return doubts


def _of_file_system(facts: FileFacts, directory: str) -> list[Doubt]:
    where = f"the directory {directory!r} of the database is"
    if facts.kind in _MEMORY:
        return [
            Doubt(
                "files-in-memory",
                f"{where} in memory ({facts.kind}), so every event is lost when the machine or container stops; use one on a disk",
            )
        ]
    if facts.kind in _LAYERS:
        return [
            Doubt(
                "files-in-container",
                f"{where} in the container's own layer ({facts.kind}), which goes with the container; mount a volume there",
            )
        ]
    if facts.kind in _REMOTE:
        return [
            Doubt(
                "files-remote",
                f"{where} on a shared or network file system ({facts.kind}), where SQLite's locks and syncing cannot be relied on; use "
                "a local disk, or PostgreSQL",
            )
        ]
    if facts.options & {"nobarrier", "barrier=0"}:
        return [
            Doubt(
                "no-barriers",
                f"{where} on a disk that is mounted without barriers, so power loss loses events; mount it without nobarrier",
            )
        ]
    return []


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo. Source: https://www.kernel.org/doc/html/latest/filesystems/proc.html (3.5)"""

    point: str
    kind: str
    options: frozenset[str] = field(default_factory=frozenset)


def read_mounts(text: str) -> list[Mount]:
    """The mounts of a `mountinfo`, later ones over earlier ones."""
    mounts = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if separator and len(fields) >= 6 and len(kinds) >= 3:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            mounts.append(Mount(point, kinds[0], frozenset((*fields[5].split(","), *kinds[2].split(",")))))
    return mounts


def mount_of(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that holds `path`."""
    held = [mount for mount in mounts if path == mount.point or path.startswith(mount.point.rstrip("/") + "/")]
    return max(enumerate(held), key=lambda each: (len(each[1].point), each[0]))[1] if held else None


def look_at_files(path: str, journal_mode: str, synchronous: int, environ: Mapping[str, str]) -> FileFacts:
    """The facts about the database file at `path`, which is there."""
    directory = os.path.dirname(path)
    try:
        mounts = read_mounts(Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
    except OSError:  # not Linux
        mounts = []
    mount = mount_of(directory, mounts)
    status, around, room = os.stat(path), os.stat(directory), os.statvfs(directory)
    return FileFacts(
        path,
        kind=mount.kind if mount is not None else "",
        options=mount.options if mount is not None else frozenset(),
        is_mount=status.st_dev != around.st_dev or any(each.point == path for each in mounts),
        journal_apart=_is_apart(f"{path}-wal", status.st_dev),
        names=status.st_nlink,
        free=room.f_bavail * room.f_frsize,
        size=room.f_blocks * room.f_frsize,
        journal_mode=journal_mode.lower(),
        synchronous=synchronous,
        preload=environ.get("LD_PRELOAD", ""),
    )


def _is_apart(journal: str, device: int) -> bool:
    try:
        return os.path.islink(journal) or os.stat(journal).st_dev != device
    except OSError:  # not there: no connection has made it yet
        return False


class FileDurability:
    """See `durability.DurabilityLook`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def doubts(self) -> list[Doubt]:
        """Looks at the file that is in use, and asks a connection to it."""
        return of_files(self._facts())

    def _facts(self) -> FileFacts:
        with self.database.read() as connection:
            journal = str(connection.exec_driver_sql("pragma journal_mode").scalar())
            synchronous = int(connection.exec_driver_sql("pragma synchronous").scalar() or 0)
        assert self.database.path is not None
        path = os.path.realpath(self.database.path)  # SQLite follows links, and puts the journal beside the real file
        return look_at_files(path, journal, synchronous, os.environ)


__all__ = ["FileDurability", "FileFacts", "Mount", "look_at_files", "mount_of", "of_files", "read_mounts"]
