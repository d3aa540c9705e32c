"""What a study's configuration must say."""

from __future__ import annotations

import pytest

from pipeline.configuration.composition import compose
from pipeline.configuration.groups import SHIPPED, options
from pollinate.errors import UsageError


@pytest.mark.parametrize("name", options("study", [SHIPPED]))
def test_each_shipped_study_composes(name: str) -> None:
    study = compose("study", [f"study={name}"])["study"]
    assert study["budget"] == "rows"
    assert study["pair_weights"] == [1.0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("study=pairz", "study has no option 'pairz'; did you mean pairs?"),
        ("study.pair=all", 'unknown key study.pair="all"; did you mean study.pairs?'),
        ("study.pairs=some", "study.pairs must be all, a list such as [[a, b]], or null"),
        ("study.pairs=[[digit,sentimen]]", "study.pairs[0] names 'sentimen'; did you mean sent"),
        ("study.pairs=[[digit,digit]]", "study.pairs[0] must be two tasks, each once"),
        ("study.groups=[[digit]]", "study.groups[0] must be two tasks or more, each once"),
        ("study.transfers=[[a,digit]]", "study.transfers[0] names 'a'; tasks: digit"),
        (
            "study.label_fractions=[10]",
            "study.label_fractions must be shares in (0, 1), such as [0.1, 0.3]",
        ),
        ("study.budget=epochs", "study.budget must be one of rows, steps"),
        ("study.predictors=[tga]", "study.predictors names 'tga'; did you mean tag?"),
        ("study.pair_weights=[0]", "study.pair_weights must be one or more weights > 0"),
        ("study.variants.multi_task=dim=4", "a variant's name is letters, digits"),
        ("study.variants.up=upgrad", "study.variants.up must be a list such as"),
        ("study.search={trials: 0, keys: {dim: [1]}}", "study.search.trials must be a whole"),
        ("study.search={trails: 3, keys: {dim: [1]}}", "unknown key study.search.trails=3; did"),
        ("study.search={trials: 3}", "study.search.keys must be {key: values}"),
        ("study.search.keys.dim=3", "study.search.keys.dim must be a list of choices"),
        ("study.search.keys.dim={low: 3, high: 2}", "must have numbers low < high"),
        ("study.search.keys.dim={low: 0, high: 2, log: true}", "low must be > 0 with log: true"),
        ("tasks=[digit]", "a study compares two tasks or more, the data have digit"),
        ("seeds=[]", "seeds must be one or more different whole numbers >= 0, got []"),
        ("seeds=[1,1]", "seeds must be one or more different whole numbers >= 0"),
        ("jobs=0", "jobs must be >= 1, got 0"),
        ("timeout=0", "timeout must be > 0 minutes, got 0"),
    ],
)
def test_bad_studies(given: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose("study", [given])
    assert message in str(caught.value)


def test_shares_of_labels_are_given_once() -> None:
    with pytest.raises(UsageError, match="are both shares of the labels; leave one out"):
        compose("study", ["label_fraction=0.5", "study.label_fractions=[0.1]"])


def test_transfers_need_their_sources() -> None:
    with pytest.raises(UsageError, match=r"begin from the runs of study\.single_task"):
        compose("study", ["study=transfer", "study.single_task=false"])


def test_a_study_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"study compares nothing; set one of study\.single_task"):
        compose("study", ["study.single_task=false", "study.multi_task=false"])


def test_a_variant_may_take_a_key_away() -> None:
    found = compose("study", ["study.variants.titles=['~data.image.shift']"])
    assert found["study"]["variants"] == {"titles": ["~data.image.shift"]}
