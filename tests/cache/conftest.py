import keras
import pytest


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)
    keras.config.disable_interactive_logging()
    yield
    keras.config.enable_interactive_logging()
    keras.config.set_dtype_policy("float32")
