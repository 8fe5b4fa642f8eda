"""Encryption at rest, the only import of cryptography: vectors, landmarks and pictures under a passphrase.

Each value is sealed by itself with AES-256-GCM: 12 random bytes (the nonce), the ciphertext, 16
bytes that prove it unaltered. What the value is (kind, digest of the picture, vector space)
is proved along with it, so that nobody can exchange two values. The key comes from the passphrase by
scrypt (RFC 7914). The gallery keeps a mark (JSON, meta "seal"): salt, costs and a sealed known text
that tells a wrong passphrase from a damaged gallery.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import unicodedata
from collections.abc import Callable
from typing import Any, Final, overload

from facecam.errors import DependencyMissing, GalleryDamaged, GalleryLocked, UsageFault

#: Bytes that sealing adds to a value: nonce and tag. A multiple of four, as the schema asks of vectors.
OVERHEAD: Final = 28
#: Cost of scrypt: 128 MiB and about 0.4 s, what OWASP's password storage cheat sheet recommends.
COST: Final = 1 << 17
#: A gallery may come from anywhere: its mark must not make us use gigabytes or hours.
COST_MAX: Final = 1 << 20
PASSPHRASE_MIN: Final = 8
PASSPHRASE_MAX: Final = 1024
VARIABLE: Final = "FACECAM_PASSPHRASE"
_BLOCK: Final = 8
_KNOWN: Final = b"facecam gallery"


class Seal:
    """Seals and opens the values of one gallery."""

    def __init__(self, key: bytes | None, mark: str | None) -> None:
        """Use `PLAIN`, `make` or `open_mark`."""
        self._cipher = None if key is None else _cipher(key)
        self.mark = mark

    @overload
    def close(self, identity: str, plain: bytes) -> bytes: ...
    @overload
    def close(self, identity: str, plain: None) -> None: ...
    def close(self, identity: str, plain: bytes | None) -> bytes | None:
        """A value as it is stored; None stays None.

        Args:
            identity: what the value is; opening takes the same words.
        """
        if self._cipher is None or plain is None:
            return plain
        nonce = os.urandom(12)
        sealed: bytes = nonce + self._cipher.encrypt(nonce, plain, identity.encode())
        return sealed

    @overload
    def open(self, identity: str, stored: bytes) -> bytes: ...
    @overload
    def open(self, identity: str, stored: None) -> None: ...
    def open(self, identity: str, stored: bytes | None) -> bytes | None:
        """A value as it was given to `close`.

        Raises:
            GalleryDamaged: it was altered, or is another value than it claims to be.
        """
        if self._cipher is None or stored is None:
            return stored
        from cryptography.exceptions import InvalidTag

        try:
            plain: bytes = self._cipher.decrypt(stored[:12], stored[12:], identity.encode())
        except (InvalidTag, ValueError) as error:
            raise GalleryDamaged(
                "the gallery holds an encrypted value that was altered or exchanged; facecam people restore FILE "
                "brings a backup back"
            ) from error
        return plain


#: For a gallery that is not encrypted.
PLAIN: Final = Seal(None, None)

#: Keys of this process by their mark: whoever opens a gallery twice is asked once.
_keys: dict[str, Seal] = {}
_keys_lock = threading.Lock()


def make(passphrase: str, cost: int | None = None) -> Seal:
    """A new seal.

    Raises:
        UsageFault: the passphrase is too short or too long. DependencyMissing: no cryptography.
    """
    if not PASSPHRASE_MIN <= len(passphrase) <= PASSPHRASE_MAX:
        raise UsageFault(
            f"a passphrase has {PASSPHRASE_MIN} to {PASSPHRASE_MAX} characters, not {len(passphrase)}; give another"
        )
    salt, cost = os.urandom(16), COST if cost is None else cost
    key = _derived(passphrase, salt, cost)
    facts = {"cipher": "aes-256-gcm", "kdf": "scrypt", "cost": cost, "salt": base64.b64encode(salt).decode()}
    known = Seal(key, None).close("known", _KNOWN)
    mark = json.dumps({**facts, "known": base64.b64encode(known).decode()}, sort_keys=True)
    made = Seal(key, mark)
    with _keys_lock:
        _keys[mark] = made
    return made


def open_mark(mark: str, ask: Callable[[], str] | None) -> Seal:
    """The seal of an encrypted gallery.

    Args:
        mark: what `Seal.mark` was.
        ask: gives the passphrase where the environment does not; None to refuse then.

    Raises:
        GalleryLocked: no passphrase, or a wrong one.
        GalleryDamaged: the mark is none.
    """
    with _keys_lock:
        known = _keys.get(mark)
    if known is not None:
        return known
    salt, cost, proof = _parsed(mark)
    passphrase = os.environ.get(VARIABLE)
    where = f"the passphrase in {VARIABLE}"
    if not passphrase:
        if ask is None:
            raise GalleryLocked(
                f"the gallery is encrypted: set {VARIABLE} to its passphrase, or run the command on a terminal"
            )
        passphrase, where = ask(), "that passphrase"
    key = _derived(passphrase[:PASSPHRASE_MAX], salt, cost)
    try:
        Seal(key, None).open("known", proof)
    except GalleryDamaged as error:
        raise GalleryLocked(f"the gallery is encrypted, and {where} does not open it; try again") from error
    opened = Seal(key, mark)
    with _keys_lock:
        _keys[mark] = opened
    return opened


def _parsed(mark: str) -> tuple[bytes, int, bytes]:
    try:
        facts = json.loads(mark)
        salt = base64.b64decode(facts["salt"], validate=True)
        proof = base64.b64decode(facts["known"], validate=True)
        cost = facts["cost"]
        known = facts["cipher"] == "aes-256-gcm" and facts["kdf"] == "scrypt"
        fits = isinstance(cost, int) and 2 <= cost <= COST_MAX and cost & (cost - 1) == 0
        if known and fits and len(salt) == 16 and len(proof) == len(_KNOWN) + OVERHEAD:
            return salt, cost, proof
    except (ValueError, TypeError, KeyError):
        pass
    raise GalleryDamaged(
        "the gallery says that it is encrypted, but not in a way that this facecam knows; update facecam, or bring "
        "a backup back (facecam people restore FILE)"
    )


def _derived(passphrase: str, salt: bytes, cost: int) -> bytes:
    text = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    maxmem = min(256 * _BLOCK * cost, (1 << 31) - 1)  # twice what it takes, and an int of C
    return hashlib.scrypt(text, salt=salt, n=cost, r=_BLOCK, p=1, maxmem=maxmem, dklen=32)


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise DependencyMissing(
            "encryption needs the package cryptography; install it: pip install 'facecam[encrypt]'"
        ) from error
    return AESGCM(key)
