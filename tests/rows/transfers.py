"""Rows of transfer methods."""

from __future__ import annotations

from tests.rows.row import Row
from tests.rows.tasks import WRITING

SOURCE = "data-quickstart"  # folder of a run that test_every_config has trained before
READS_ALIKE = f"data.text.tokenizer={SOURCE}"

# given: nothing; expected: losses by task, and the rest
TRANSFERS = (
    Row("transfer", "none", None, ({}, None)),
    Row(
        "transfer",
        "init",
        None,
        ({}, None),
        {"source": "runs/a"},
        ("transfer=init", f"transfer.source={SOURCE}", READS_ALIKE),
    ),
    Row(  # at the start nothing has moved: beta / 2 of 0
        "transfer",
        "l2_sp",
        None,
        ({}, 0.0),
        {"source": "runs/a", "beta": 0.0},
        ("transfer=l2_sp", f"transfer.source={SOURCE}", READS_ALIKE),
    ),
    *(  # of a model that is its own source, and reads the same
        Row(
            "transfer",
            option,
            None,
            ({}, 0.0),
            {"source": "runs/a", **options},
            (f"transfer={option}", f"transfer.source={SOURCE}", READS_ALIKE, *extra),
        )
        for option, options, extra in (
            ("hints", {}, ()),
            ("attention_transfer", {"modalities": ["image"]}, ("transfer.modalities=[image]",)),
            ("relational", {}, ()),
            ("cka", {}, ()),
        )
    ),
    *(
        Row(
            "transfer",
            option,
            None,
            ({}, None),
            {"sources": {"a": "runs/a", "b": "runs/a"}},
            (f"transfer={option}", f"transfer.sources={{a: {SOURCE}, b: {SOURCE}}}", READS_ALIKE),
        )
        for option in ("source_attention", "weighted_fusion")
    ),
    Row(
        "transfer",
        "adaptors",
        None,
        ({"notes": 0.0, "shapes": 0.0}, None),
        {"teachers": {"notes": "runs/a", "shapes": "runs/a"}},
        (
            "transfer=adaptors",
            f"transfer.teachers={{digit: {SOURCE}, sentiment: {SOURCE}}}",
            READS_ALIKE,
        ),
    ),
    Row(  # the old task's answers are the source's at the start
        "transfer",
        "lwf",
        {"old": "notes"},
        ({"old": 0.0}, None),
        {"source": "runs/a"},
        (
            "transfer=lwf",
            f"transfer.source={SOURCE}",
            READS_ALIKE,
            "~data.tasks.sentiment",
            "~data.datasets.reviews",
            "+data.tasks.sentiment={type: classification, unlabelled: courses, "
            f"labels_of: {SOURCE}}}",
        ),
    ),
    *(  # the teacher is the student itself, from which it isn't apart
        Row(
            "transfer",
            name,
            None,
            ({"notes": 0.0, "shapes": 0.0}, None),
            {"teachers": "runs/a"},
            (f"transfer={name}", f"transfer.teachers={{digit: {SOURCE}, subject: {SOURCE}}}"),
        )
        for name in ("hinton", "decoupled", "dist", "gkd")
    ),
    Row(  # what a teacher with a head says stands in place of a writing student's labels
        "transfer",
        "sequence_level",
        "answers",
        ({}, None),
        {"teachers": {"notes": "runs/a"}},
        (
            "transfer=sequence_level",
            f"transfer.teachers={{sentiment: {SOURCE}}}",
            *WRITING[1:],
            "~data.tasks.sentiment",
            "+data.tasks.sentiment={dataset: reviews, type: generation, target: score, "
            "prompt: '{review}', max_prompt: 32, choices: labels}",
        ),
    ),
    Row(
        "transfer",
        "annealed",
        None,
        ({"notes": 0.0, "shapes": 0.0}, None),
        {"method": {"name": "hinton", "teachers": "runs/a"}, "steps": 10},
        ("transfer=annealed", f"transfer.method={{name: hinton, teachers: {SOURCE}}}"),
    ),
    Row(
        "transfer",
        "fork_merge",
        None,
        ({}, None),
        {"targets": ["notes"], "every_n_steps": 1},
        ("transfer=fork_merge", "transfer.targets=[digit]", "transfer.every_n_steps=1"),
    ),
    Row(
        "transfer",
        "several",
        None,
        ({}, None),
        {"methods": {"no": {"name": "none"}}},
        ("transfer=several", "transfer.methods={no: {name: none}}"),
    ),
)
