"""What all tests run under."""

import gc


def pytest_collection_finish():
    # Keras and TensorFlow hold millions of objects that live on, and each trace makes many more: to look through all of
    # them again and again took a fifteenth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
