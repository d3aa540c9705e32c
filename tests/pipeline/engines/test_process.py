"""Why a run failed, in one line."""

from __future__ import annotations

import pytest

from pipeline.engines.process import failure_reason, memory_advice

ADVICE = memory_advice()


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [
        (1, "epoch 1\nerror: the loss is NaN\nrun again with --debug", "the loss is NaN"),
        (2, "error: 2 problems\n  - one\n  - two\nmore", "2 problems - one - two"),
        (
            1,
            "error: MemoryError; all about it: a/crash.txt\n",
            f"MemoryError; all about it: a/crash.txt; {ADVICE}",
        ),
        (
            1,
            "error: ImportError: libtorch_cpu.so: failed to map segment from shared object\n",
            f"ImportError: libtorch_cpu.so: failed to map segment from shared object; {ADVICE}",
        ),
        (1, "what(): std::bad_alloc\n", f"what(): std::bad_alloc; {ADVICE}"),
        (-9, "epoch 1", f"it was killed, probably for lack of memory; {ADVICE}"),
        (-6, "terminated", "it was ended by SIGABRT: terminated"),
        (3, "epoch 1  digit .87", "it ended with exit code 3; it said last: epoch 1  digit .87"),
        (3, "", "it ended with exit code 3 and said nothing"),
    ],
)
def test_the_reason_is_told(code: int, output: str, told: str) -> None:
    assert failure_reason(code, output) == told
