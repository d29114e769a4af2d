"""The one grammar for sources: what kind a name means, what is asked of it, and what of it may be shown.

People write passwords as they are, with '@', '/', '#' and spaces in them. So nothing here trusts that a
URL was quoted well: the credentials end at the last '@', and whatever looks like a secret is hidden even
where that hides too much.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote, unquote, urlsplit

from fcn_edge.errors import SourceError, UsageError
from fcn_edge.video.options import SourceOptions, are_options

HIDDEN = "***"
LIVE = frozenset({"reconnect", "stall", "wait"})
NETWORK = LIVE | {"flip", "latency", "hardware"}
# The options that mean something to a kind of source. Kinds are schemes, but `file` is whatever has a path.
KINDS = {
    "v4l2": LIVE | {"size", "rate", "codec", "flip"},
    "csi": LIVE | {"size", "rate", "flip"},
    "gst": LIVE | {"flip"},
    "rtsp": NETWORK | {"transport"},
    "rtsps": NETWORK | {"transport"},
    "http": NETWORK,
    "https": NETWORK,
    "udp": NETWORK,
    "rtp": NETWORK | {"codec"},
    "demo": LIVE | {"size", "rate", "flip", "live"},
    "file": LIVE | {"flip", "loop", "live"},
}
NETWORKS = ("rtsp", "rtsps", "http", "https", "udp", "rtp")
SECRET = (
    r"pass(?:word|wd|phrase|code)?|pwd|pw|token|secret|api[-_]?key|key|auth|sig(?:nature)?"
    r"|user(?:[-_]?(?:name|id))?|usr|login"
)
_IN_QUOTES = re.compile(r"(?i)([\"'])([a-z][a-z0-9+.-]*://)(?:(?!\1).)+@")
_CREDENTIALS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s'\"<>]+@")
_SETTING = re.compile(rf"(?i)((?:{SECRET})\s*=\s*)(?:\"[^\"]*\"|'[^']*'|[^\s&'\"<>]+)")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[\w.-]*)(?::\d{1,5})?")


@dataclass(frozen=True)
class Uri:
    """What a source was called. `target` may hold a password: print `name`, which does not.

    kind:   one of KINDS.
    target: a URL for networks, a device path for v4l2, a sensor's number for csi, a pipeline for gst, else a path.
    """

    kind: str
    target: str = field(repr=False)
    options: SourceOptions = field(default_factory=SourceOptions)

    @property
    def live(self) -> bool:
        """Whether its frames come when they come."""
        return self.kind not in ("demo", "file") or bool(self.options.live)

    @cached_property
    def name(self) -> str:
        """What may be shown of it."""
        if self.kind in ("v4l2", "demo", "file"):
            return self.target
        if self.kind in ("csi", "gst"):
            return redact(f"{self.kind}://{self.target}")
        return shown(self.target)

    @cached_property
    def credentials(self) -> tuple[str, str] | None:
        """User and password as the camera knows them, where the URL names them."""
        user, _, password = self._parts[1].partition(":")
        return (unquote(user), unquote(password)) if user or password else None

    @cached_property
    def quoted(self) -> str:
        """The URL with its user and password quoted, so that every reader splits it where it is meant to."""
        scheme, _, rest = self._parts
        if self.credentials is None:
            return self.target
        user, password = (quote(part, safe="") for part in self.credentials)
        return f"{scheme}{user}:{password}@{rest}" if password else f"{scheme}{user}@{rest}"

    def hide(self, text: str) -> str:
        """`text`, in which a library may have put this source's address, on one line without what is secret in it."""
        if self.kind in NETWORKS:  # other targets are no addresses: the 0 of csi://0 stands in any text
            text = text.replace(self.target, self.name).replace(self.quoted, self.name)
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return redact(" ".join(text.split()))

    @property
    def _secrets(self) -> set[str]:
        given = self._parts[1].partition(":")[2]
        before = self.target.partition("://")[2].rpartition("@")[0].partition(":")[2]
        forms = {given, before, unquote(given), quote(unquote(given), safe="")} if "://" in self.target else set()
        return {form for form in forms if len(form) > 2}  # a shorter one would blot out half of any text

    @cached_property
    def _parts(self) -> tuple[str, str, str]:
        """Scheme with its slashes, user and password as written, and the rest."""
        scheme, slashes, rest = self.target.partition("://")
        if self.kind in ("v4l2", "csi", "gst", "demo", "file"):
            return "", "", self.target
        authority = re.split(r"[/?]", rest, maxsplit=1)[0]
        if "@" in authority:
            at = authority.rindex("@")
        elif _HOST.fullmatch(authority):
            at = -1
        else:  # a password with a '/' in it: its '@' is the first one that a host follows
            ats = (match.start() for match in re.finditer("@", rest))
            at = next((i for i in ats if _HOST.fullmatch(re.split(r"[/?]", rest[i + 1 :], maxsplit=1)[0])), -1)
        return scheme + slashes, rest[: max(at, 0)], rest[at + 1 :]


def redact(text: str) -> str:
    """`text` without the credentials of any URL in it, and without the values of settings that name secrets."""
    text = _IN_QUOTES.sub(rf"\1\2{HIDDEN}@", text)
    return _SETTING.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(rf"\1{HIDDEN}@", text))


def shown(address: str) -> str:
    """What may be shown of one address: up to its last '@' all may be user and password, however they were written."""
    scheme, slashes, rest = address.partition("://")
    _, at, place = rest.rpartition("@")
    return redact(f"{scheme}{slashes}{HIDDEN if at else ''}{at}{place}")


def parse(text: str | os.PathLike[str], options: SourceOptions | None = None) -> Uri:
    """The source that `text` names, with the options behind its '#' over `options`.

    Raises UsageError where an option is unknown or means nothing to this kind of source, SourceError where the
    text names nothing.
    """
    text = os.fspath(text)
    address, asked = _split(text)
    options = (options or SourceOptions()).updated(asked)
    kind, target = _kind(address)
    meaningless = [name for name in options.asked if name not in KINDS[kind]]
    if meaningless:
        raise UsageError(
            f"{shown(address)}: {meaningless[0]}= means nothing to such a source. "
            f"It knows {', '.join(sorted(KINDS[kind]))}; write an option behind the '#' of the source that it is for."
        )
    uri = Uri(kind, target, options)
    if kind in NETWORKS:
        _check_place(uri)
    return uri


def _check_place(uri: Uri) -> None:
    try:
        _ = urlsplit(uri.quoted).port
    except ValueError:
        form = "rtsp://USER:PASSWORD@HOST:PORT/PATH; ports end at 65535, IPv6 addresses stand in brackets"
        raise SourceError(f"{uri.name}: its host or port cannot be read. Write it as in {form}.") from None


def _split(text: str) -> tuple[str, str]:
    """The address and its options. A file whose name has a '#', and a password with one, stay whole."""
    address, sign, behind = text.rpartition("#")
    if not sign or os.path.lexists(text):
        return text, ""
    if are_options(behind) or (_scheme(text) not in (None, "gst") and "@" not in behind):
        return address, behind
    return text, ""


def _scheme(text: str) -> str | None:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return match[1].lower() if match else None


def _kind(address: str) -> tuple[str, str]:
    if not address.strip() or "\0" in address:
        raise SourceError("the source has no name. Name a photo, a folder, a video file, a camera or a stream.")
    if address.isascii() and address.isdecimal():
        return "v4l2", f"/dev/video{int(address)}"
    if address == "demo:":
        return "demo", address
    if re.fullmatch(r"/dev/(video\d+|v4l/.+)", address):
        return "v4l2", address
    scheme = _scheme(address)
    if scheme is None:
        return "file", address
    rest = address[len(scheme) + 3 :]
    if scheme not in KINDS or scheme in ("demo", "file"):
        known = ", ".join(f"{kind}://" for kind in KINDS if kind not in ("demo", "file"))
        raise SourceError(f"{shown(address)}: {scheme}:// is not known. Known: {known}, demo:, files and folders.")
    if scheme == "v4l2":
        return _kind(rest) if rest.isdecimal() else (scheme, rest)
    if scheme == "csi" and not (rest.isascii() and rest.isdecimal()):
        raise SourceError(f"{shown(address)}: names no sensor. Write its number, as in csi://0.")
    if not rest.strip():
        raise SourceError(f"{shown(address)}: ends where its address should begin.")
    return scheme, rest if scheme in ("csi", "gst") else scheme + address[len(scheme) :]
