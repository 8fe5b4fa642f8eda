"""Whose certificates are believed when events are delivered over TLS, and what is said of one that is not."""

from __future__ import annotations

import ssl
from pathlib import Path

from facecam.errors import UsageFault
from facecam.people.names import escaped


def trusting(authorities: Path | None) -> ssl.SSLContext:
    """Trusts the system's certificates and those of ``authorities`` (PEM); names and dates are always checked.

    Raises:
        UsageFault: it cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context()
    if authorities is not None:
        try:
            context.load_verify_locations(cafile=authorities)
        except ssl.SSLError:
            raise UsageFault(
                f"--ca takes a file of certificates (PEM); {escaped(str(authorities))} holds none"
            ) from None
        except OSError as error:
            raise UsageFault(f"--ca {escaped(str(authorities))}: cannot be read ({error.strerror})") from None
    return context


def told(error: BaseException | None) -> str:
    """Why a connection failed, in a few words; "" where nothing is known."""
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = "" if "mismatch" in error.verify_message else "; --ca FILE names an authority of your own"
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}{remedy}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or type(error).__name__).replace('_', ' ').lower()}"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error or "")
