"""What the command line says of an error."""


def one_line(error: Exception) -> str:
    """The text of an error on one line, short enough to read."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 600 else f"{text[:600]} ..."
