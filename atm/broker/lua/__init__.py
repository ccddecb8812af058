"""The scripts that Redis runs: each states its keys, its arguments and its result."""

from importlib.resources import files


def script(name: str) -> str:
    """The text of one of them."""
    return files(__name__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
