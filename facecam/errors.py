"""Every failure that a user can meet, as one tree.

::

    FacecamError                exit 1   something failed, or some of several inputs failed
    ├── UsageFault              exit 2   a value that cannot be used (name, option, configuration)
    ├── PersonNotFound          exit 10  no such person in the gallery
    ├── NoFaceFound             exit 11  no enrolment input shows a usable face
    ├── SourceError             exit 12  the only source cannot be opened
    ├── ModelError              exit 13  a model is missing or wrong
    │   ├── ModelMissing
    │   ├── ModelInvalid
    │   └── DownloadFailed
    ├── GalleryError            exit 14  the gallery is of another model, or damaged
    │   ├── GalleryOfAnotherModel
    │   ├── GalleryLocked
    │   └── GalleryDamaged
    ├── DeviceUnavailable       exit 1   the device asked for by name cannot run a model
    ├── DisplayUnavailable      exit 1   there is no screen to open a window on
    ├── MediaError              exit 1   an image or video cannot be decoded
    │   └── NothingDecoded      exit 1   no frame of a video, or of a stretch of it, can be
    ├── ArchiveError            exit 1   the archive index is absent, damaged, or of another run
    ├── OutputError             exit 1   an output cannot be written (exists, permission, disk full)
    └── DependencyMissing       exit 1   an optional package or a system library is absent

The library raises these; the command line turns each into one line on stderr and the exit code.
A programmer's mistake is a ValueError or TypeError and stays loud. Every message says what was
expected, what came, and what to do next.
"""

from __future__ import annotations


class FacecamError(Exception):
    """Root of the tree. ``exit_code`` is the process's status when the error ends a command."""

    exit_code = 1


class UsageFault(FacecamError):
    """A value given by the user (a name, an option, a line of config.toml) cannot be used."""

    exit_code = 2


class PersonNotFound(FacecamError):
    """The gallery has no person of that name."""

    exit_code = 10


class NoFaceFound(FacecamError):
    """None of the enrolment inputs gave a usable face."""

    exit_code = 11


class SourceError(FacecamError):
    """A camera, stream or file that should give frames cannot be opened or has stopped for good."""

    exit_code = 12


class ModelError(FacecamError):
    """A model is missing or wrong."""

    exit_code = 13


class ModelMissing(ModelError):
    """A model file, or the package that carries it, is not on this machine."""


class ModelInvalid(ModelError):
    """A model file is damaged, has another hash than pinned, or lacks a usable card."""


class DownloadFailed(ModelError):
    """A model that the user asked to download did not arrive."""


class GalleryError(FacecamError):
    """The gallery cannot be used as it is."""

    exit_code = 14


class GalleryOfAnotherModel(GalleryError):
    """The samples were made by an embedder of another vector space."""


class GalleryLocked(GalleryError):
    """The gallery is encrypted, and its passphrase was not given or is wrong."""


class GalleryDamaged(GalleryError):
    """The gallery's database fails its integrity check or has an unknown schema."""


class DeviceUnavailable(FacecamError):
    """``--device cuda`` was asked for and no session can truly run there."""


class DisplayUnavailable(FacecamError):
    """There is no screen to open a window on."""


class MediaError(FacecamError):
    """An image or a video cannot be decoded."""


class NothingDecoded(MediaError):
    """A video can be read, but no frame of it, or of the stretch that was asked for, can be decoded."""


class ArchiveError(FacecamError):
    """The archive index cannot be used as it is."""


class OutputError(FacecamError):
    """An output cannot be written."""


class DependencyMissing(FacecamError):
    """An optional package or a system library is not installed."""
