"""pip's configuration, said in uv's words: uv reads none of it by itself. Standard library only."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping
from pathlib import Path

# Later sections win, as they do in pip; the environment comes last.
_SECTIONS = ("global", "install", ":env:")
_TRUE = ("1", "true", "yes", "on")


def settings(listing: str) -> dict[str, str]:
    """The options that `pip config list` prints, as `pip install` would see them."""
    by_section: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        key, separator, quoted = line.partition("=")
        section, _, option = key.rpartition(".")
        if separator and section in by_section:
            try:
                by_section[section][option] = str(ast.literal_eval(quoted))
            except (SyntaxError, ValueError):
                continue
    return {option: value for section in _SECTIONS for option, value in by_section[section].items()}


def uv_environment(listing: str, environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` with what pip is configured to do. What is set for uv already is left as it is.

    Passed through the environment and not as arguments, because an index may carry a password.
    """
    pip = settings(listing)
    own: dict[str, str] = {
        # pip looks at all indexes and takes the best; the hashes make that safe.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_CONFIG": "1",
    }
    for option, variable in (
        ("index-url", "UV_DEFAULT_INDEX"),
        ("cert", "SSL_CERT_FILE"),
        ("timeout", "UV_HTTP_TIMEOUT"),
        ("default-timeout", "UV_HTTP_TIMEOUT"),
        ("proxy", "ALL_PROXY"),
    ):
        if option in pip:
            own[variable] = pip[option]
    for option, variable, separator in (
        ("extra-index-url", "UV_INDEX", " "),
        ("trusted-host", "UV_INSECURE_HOST", " "),
    ):
        if option in pip:
            own[variable] = separator.join(pip[option].split())
    if links := [link for link in shlex.split(pip.get("find-links", "")) if _exists(link)]:
        own["UV_FIND_LINKS"] = ",".join(links)
    if pip.get("no-index", "").lower() in _TRUE:
        own["UV_NO_INDEX"] = "1"
    return {**own, **environ}


def _exists(link: str) -> bool:
    """pip warns about a folder that is not there; uv would refuse."""
    return "://" in link or Path(link).exists()
