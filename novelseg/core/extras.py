"""Optional packages, and the extra of novelseg that installs each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from novelseg.core.errors import InputError

# Import name of a package → extra of novelseg that installs it.
EXTRAS = {
    **dict.fromkeys(("flask", "werkzeug"), "app"),
    "pillow_heif": "heic",
    **dict.fromkeys(("cv2", "higra", "scipy", "threadpoolctl"), "regions"),
    **dict.fromkeys(
        (
            *("dvclive", "faiss", "h5py", "jinja2", "kornia", "lightning_fabric", "markupsafe", "matplotlib"),
            *("pandas", "pyarrow", "pycocotools", "pydantic", "ruamel", "skimage"),
        ),
        "pipeline",
    ),
}


class MissingPackageError(InputError, ImportError):
    """Error about an optional package that is not installed; the message says how to install it."""


@contextmanager
def needs_extras(what: str) -> Iterator[None]:
    """Explain how to install an optional package that the block fails to import.

    Parameters
    ----------
    what
        Command or function that needs the package, for the message.

    Raises
    ------
    MissingPackageError
        If the missing package belongs to an extra; other import errors are passed on.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        command = f"pip install 'novelseg[{EXTRAS[package]}]'"
        raise MissingPackageError(f"{what} needs {package}; run `{command}`", name=package) from None
