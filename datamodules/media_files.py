"""Pictures and sounds in files: which endings they have, and which files a folder has of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.regular_files import file_kind
from pollinate.errors import PollinateError

# What Pillow reads and has pixels of its own, {format: endings}; the surest to tell come first.
# Others are drawn by other programs (EPS by Ghostscript), hold files of any kind (IPTC), or are
# only recognised (MPEG).
PICTURE_FORMATS: Mapping[str, tuple[str, ...]] = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "QOI": (".qoi",),
    "ICO": (".ico",),
    "ICNS": (".icns",),
    "CUR": (".cur",),
    "DDS": (".dds",),
    "BLP": (".blp",),
    "FTEX": (".ftc", ".ftu"),
    "PSD": (".psd",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "SUN": (".ras",),
    "FITS": (".fits", ".fit"),
    "FLI": (".fli", ".flc"),
    "GBR": (".gbr",),
    "DCX": (".dcx",),
    "PCX": (".pcx",),
    "PCD": (".pcd",),
    "PIXAR": (".pxr",),
    "MSP": (".msp",),
    "IM": (".im",),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
}
IMAGES = frozenset(ending for endings in PICTURE_FORMATS.values() for ending in endings)

# What libsndfile reads, {format: endings}, but for what has no header (RAW), or endings of files of
# any kind (MATLAB's).
SOUND_FORMATS: Mapping[str, tuple[str, ...]] = {
    "WAV": (".wav", ".wave"),
    "RF64": (".rf64",),
    "W64": (".w64",),
    "FLAC": (".flac",),
    "MP3": (".mp3", ".mp2", ".mp1"),
    "OGG": (".ogg", ".oga", ".opus"),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "AU": (".au", ".snd"),
    "CAF": (".caf",),
    "AVR": (".avr",),
    "HTK": (".htk",),
    "SVX": (".svx", ".8svx"),
    "MPC2K": (".mpc",),
    "PAF": (".paf",),
    "PVF": (".pvf",),
    "SDS": (".sds",),
    "IRCAM": (".sf",),
    "VOC": (".voc",),
    "NIST": (".nist", ".sph"),
    "WVE": (".wve",),
    "XI": (".xi",),
}
SOUNDS = frozenset(ending for endings in SOUND_FORMATS.values() for ending in endings)
KINDS = {"image": IMAGES, "audio": SOUNDS}

# what systems and programs put beside a user's files, in lower case; and all that begins with a dot
SYSTEM_NAMES = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "ehthumbs.db",
        "system volume information",
        "thumbs.db",
    }
)
SHOWN = 8  # reasons that a note lists


@dataclass
class FilesBelow:
    """files: of the kinds that were looked for, sorted; passed_over: {any other: why}."""

    files: list[Path] = field(default_factory=list)
    passed_over: dict[Path, str] = field(default_factory=dict)

    def require_any(self, folder: Path, what: str, endings: Collection[str]) -> None:
        """Check that a folder has files of the kinds that were looked for."""
        if not self.files:
            note = self.note(folder)
            raise PollinateError(
                f"{folder} has no {what} at any depth; looked for {', '.join(sorted(endings))}"
                f"{'' if note is None else f'; {note}'}"
            )

    def forget(self, known: Collection[Path]) -> None:
        """Leave files out of those that are passed over; ``known``: without links."""
        self.passed_over = {
            file: why
            for file, why in self.passed_over.items()
            if Path(os.path.realpath(file)) not in known
        }

    def note(self, folder: Path) -> str | None:
        """Say how many files of a folder are passed over and why, None if there are none."""
        if not self.passed_over:
            return None
        counts = Counter(self.passed_over.values())
        reasons = sorted(counts.items(), key=lambda reason: (-reason[1], reason[0]))
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons[:SHOWN])
        count = len(self.passed_over)
        return (
            f"{count:,} {'file' if count == 1 else 'files'} in {folder} passed over: {listed}"
            f"{' ...' if len(reasons) > SHOWN else ''}"
        )


def files_below(path: Path, endings: Collection[str]) -> FilesBelow:
    """Return the files of these kinds at any depth of a folder; or the file itself.

    Hidden files and folders, and those of ``SYSTEM_NAMES``, are passed over; folders that are links
    aren't gone into.

    Raises:
        PollinateError: a folder can't be read.
    """
    found = FilesBelow()
    if not path.is_dir():
        found.files = [path] if path.suffix.lower() in endings else []
        return found
    for name, folders, files in os.walk(path, onerror=refuse_folder):
        folder = Path(name)
        inner = folder.relative_to(path).parts
        for file in map(folder.joinpath, files):
            if why := reason_to_pass_over(file, inner, endings):
                found.passed_over[file] = why
            else:
                found.files.append(file)
        links = [folder / one for one in folders if (folder / one).is_symlink()]
        found.passed_over |= dict.fromkeys(links, "linked as folders")
    found.files.sort()
    return found


def reason_to_pass_over(file: Path, inner: tuple[str, ...], endings: Collection[str]) -> str:
    """Return why a file isn't read, for people; empty if it is.

    Args:
        file: its path.
        inner: the folders that it lies in, below the one that is read.
        endings: of what is looked for.
    """
    if any(name.startswith(".") or name.lower() in SYSTEM_NAMES for name in (*inner, file.name)):
        return "hidden"
    ending = file.suffix.lower()
    if ending not in endings:
        return f"with the ending {ending}" if ending else "without an ending"
    try:
        kind = file_kind(file)
    except PollinateError:
        return "that can't be read"
    return "that lead to nothing" if kind is None else "of no ordinary kind" if kind else ""


def refuse_folder(error: OSError) -> None:
    raise PollinateError(f"the folder {error.filename} can't be read: {error.strerror}") from error
