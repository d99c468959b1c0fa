"""Wheels from a Python package index, read as pip would, on machines that have no pip."""

import base64
import configparser
import hashlib
import html.parser
import os
import pathlib
import ssl
import urllib.error
import urllib.parse
import urllib.request

from toolbox import FetchError

PUBLIC_INDEX = "https://pypi.org/simple"
TIMEOUT_S = 60


def _config_files() -> list[pathlib.Path]:
    """pip's files, weakest first: machine, user (old and new place), PIP_CONFIG_FILE."""
    home = pathlib.Path.home()
    config_home = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    places = [
        *(pathlib.Path(d) / "pip/pip.conf"
          for d in reversed((os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")) if d),
        pathlib.Path("/etc/pip.conf"),
        home / ".pip/pip.conf",
        pathlib.Path(config_home) / "pip/pip.conf",
    ]
    named = os.environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    return places + ([pathlib.Path(named)] if named else [])


def setting(name: str) -> str | None:
    """One of pip's settings (`index-url`, `cert`): the environment wins over the files."""
    from_env = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if from_env:
        return from_env
    found = None
    for path in _config_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # pip itself would complain; a broken file must not hide the others
        for section in ("global", "install", "download"):
            found = parser.get(section, name, fallback=None) or found
    return found


def _tls() -> ssl.SSLContext:
    cert = setting("cert")
    try:
        # Without a setting Python's own rules apply, SSL_CERT_FILE among them.
        return ssl.create_default_context(cafile=cert) if cert else ssl.create_default_context()
    except OSError as error:
        raise FetchError(f"cannot read pip's certificate file {cert}: {error}") from error


def _without_password(url: str) -> tuple[str, str | None]:
    """Splits `user:password@` off an address: urllib refuses it, and no message may show it."""
    parts = urllib.parse.urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    login, host = parts.netloc.rsplit("@", 1)
    token = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {token}"


def _open(url: str, login: str | None):
    headers = {"User-Agent": "pointsman-tools", "Accept": "text/html, */*;q=0.1"}
    request = urllib.request.Request(url, headers=headers)
    if login:
        # "Unredirected": a redirect to another host must not carry the password along.
        request.add_unredirected_header("Authorization", login)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S, context=_tls())
    except urllib.error.HTTPError as error:
        raise FetchError(f"{url} answered {error.code} {error.reason}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FetchError(f"cannot reach {url}: {reason}") from error


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.hrefs += [value for key, value in attrs if key == "href" and value]


def _find(project: str, filename: str) -> tuple[str, str | None]:
    index, login = _without_password(setting("index-url") or PUBLIC_INDEX)
    page = f"{index.rstrip('/')}/{project}/"
    with _open(page, login) as answer:
        links = _Links()
        links.feed(answer.read().decode("utf-8", "replace"))
        base = answer.geturl()
    for href in links.hrefs:
        url = urllib.parse.urldefrag(urllib.parse.urljoin(base, href)).url
        path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
        if path.rsplit("/", 1)[-1] == filename:
            same_host = urllib.parse.urlsplit(url).netloc == urllib.parse.urlsplit(page).netloc
            return url, login if same_host else None
    raise FetchError(f"the package index {page} does not list {filename}")


def download(project: str, filename: str, sha256: str, to: pathlib.Path) -> None:
    """Saves one file of `project` as `to`, after comparing its SHA-256."""
    url, login = _find(project, filename)
    digest = hashlib.sha256()
    with _open(url, login) as answer, open(to, "wb") as out:
        try:
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                out.write(chunk)
        except OSError as error:
            raise FetchError(f"the download of {filename} broke off: {error}") from error
    if digest.hexdigest() != sha256:
        to.unlink()
        raise FetchError(f"{filename} has SHA-256 {digest.hexdigest()}, expected {sha256}")
