import errno

import pytest
import torch

from benchmarks.run.errors import BenchmarkError
from benchmarks.run.faults import attempted, one_line, raise_if_of_the_run


@pytest.mark.parametrize(
    "error, message",
    [
        (MemoryError(), "too little memory .MemoryError: no message.; with fewer --jobs the same"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "too little memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "too little memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "too little memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "too little memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "can't read or write a file .*No space left on device"),
    ],
)
def test_what_a_user_can_put_right_says_how(error, message):
    with pytest.raises(BenchmarkError, match=message) as raised:
        raise_if_of_the_run(error)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [BenchmarkError("a reason"), ImportError("no module"), RuntimeError("CUDA error: an illegal memory access")],
)
def test_others_of_the_run_are_raised_as_they_are(error):
    with pytest.raises(type(error)) as raised:
        raise_if_of_the_run(error)
    assert raised.value is error


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("shapes"), ZeroDivisionError()])
def test_the_rest_is_a_result(error):
    raise_if_of_the_run(error)


def test_one_line():
    assert one_line(ValueError("a\n  b")) == "ValueError: a b"
    assert len(one_line(ValueError("x" * 1000))) == 500


def test_a_torch_allocation_is_told_apart():
    """The words are torch's own."""
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**60)
    with pytest.raises(BenchmarkError, match="too little memory"):
        raise_if_of_the_run(of_torch.value)


def test_what_fails_by_itself_is_a_result_and_what_fails_today_is_none():
    assert attempted(divmod, 7, 2) == ((3, 1), "")
    assert attempted(divmod, 7, 0)[0] is None and attempted(divmod, 7, 0)[1].startswith("ZeroDivisionError: ")
    with pytest.raises(BenchmarkError, match=r"can't read or write a file .*nowhere"):
        attempted(open, "nowhere")
