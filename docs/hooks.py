"""Links of the site that leave ``docs/``: they name the file, which only a checkout has."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Write ``text (`path`)`` for a link to a file of the repository outside of the site."""
    docs = Path(config.docs_dir)
    folder = (docs / PurePosixPath(page.file.src_uri)).parent

    def named(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]
        path = f"`{target.relative_to(docs.parent).as_posix()}`"
        return path if link[1].strip("`") in path else f"{link[1]} ({path})"

    return _LINK.sub(named, markdown)
