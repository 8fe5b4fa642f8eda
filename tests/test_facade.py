"""What ``import facecam`` promises."""

import facecam


def test_exported_names_are_pinned() -> None:
    assert facecam.__all__ == ["__version__"]
    assert facecam.__version__.count(".") == 2
