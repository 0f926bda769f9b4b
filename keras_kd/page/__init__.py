"""The page that people look at: what an export has left in its folder, as one HTML file."""

from keras_kd.page.writing import write_report

__all__ = ["write_report"]
