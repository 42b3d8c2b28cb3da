"""Packages that only some of the library needs, and the extra of novelseg that installs each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from novelseg.core.errors import InputError

# Package, by the name that it is imported by → extra of novelseg.
EXTRAS = {
    **dict.fromkeys(("flask", "werkzeug"), "app"),
    **dict.fromkeys(("cv2", "higra", "scipy", "threadpoolctl"), "regions"),
    **dict.fromkeys(
        (
            *("dvclive", "faiss", "h5py", "jinja2", "kornia", "lightning_fabric", "markupsafe", "matplotlib"),
            *("pandas", "pycocotools", "pydantic", "requests", "ruamel", "skimage", "urllib3", "yaml"),
        ),
        "pipeline",
    ),
}


class MissingPackageError(InputError, ImportError):
    """A package of an extra that is not installed, in one sentence that says how to install it."""


@contextmanager
def needs_extras(what: str) -> Iterator[None]:
    """Raise one sentence for a package of an extra that the block cannot import.

    Parameters
    ----------
    what
        The command or function that needs the package, for the sentence.

    Raises
    ------
    MissingPackageError
        If a package that an extra installs is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        command = f"pip install 'novelseg[{EXTRAS[package]}]'"
        raise MissingPackageError(f"{what} needs {package}; run `{command}`", name=package) from None
