"""What errors say of texts that are not ours, and may be of any length."""


def one_line(error: Exception, most: int = 600) -> str:
    """The text of an error on one line, short enough to read."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, most)


def shortened(text: str, most: int = 200) -> str:
    """A text, cut to what fits into an error."""
    return text if len(text) <= most else f"{text[:most]}..."
