"""What every formula does to its arguments first."""

from keras import ops


def as_teacher(tensor):
    """In float32 and cut off from the gradient: a loss never trains the teacher."""
    return ops.stop_gradient(as_student(tensor))


def as_student(tensor):
    """In float32, whatever the compute dtype: float16 overflows at 65,504."""
    return ops.cast(ops.convert_to_tensor(tensor), "float32")
