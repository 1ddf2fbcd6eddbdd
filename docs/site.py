"""Pages of the documentation's site that are no files of docs/, and links between all of them (a hook of MkDocs)."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

# Files of the repository, and what they are called on the site. All of docs/ keeps its name.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "speed.md",
    "results/measured/README.md": "measured.md",
    "results/measured/h100/profile.md": "measured-h100.md",
}

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s:]*?)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to where a page is on the site; those to code, which is not on it, become plain text."""
    of_repository = {name: source for source, name in OUTSIDE.items()}
    here = of_repository.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def on_site(match: re.Match[str]) -> str:
        mark, text, path, anchor = match[1], match[2], match[3], match[4] or ""
        if not path:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
        name = OUTSIDE.get(target, target.removeprefix("docs/"))
        found = files.get_file_from_path(name)
        if (found is None or found.inclusion.is_excluded()) and (ROOT / target).exists():
            return text
        return f"{mark}[{text}]({posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return _LINK.sub(on_site, markdown)
