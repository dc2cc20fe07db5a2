from dataclasses import replace

import pytest

from benchmarks.experiment.results import Warned
from benchmarks.methods.weightings import EG, WG
from benchmarks.tables import notes


def text_of(results, **more):
    return "\n".join(notes.notes(results, **more))


def test_notes_are_of_what_the_report_holds_and_of_nothing_else(make):
    text = text_of(make())
    assert "Random: uniform random numbers." in text and text.count("A method worth its name") == 1
    assert f"D_alpha of {WG}: deletion, corners, signed ranking, alpha 0.5. Judges here that work" in text
    assert "its own yardstick: DeletionAUC." in text and "classifies correctly" in text
    assert 'DeletionAUC(removal="corners")' in text and "seed 3" in text
    assert not [
        word
        for word in ("category", "Complexity", "-3ch", "explain again", "unreadable", "EdgeDetector")
        if word in text
    ]
    fewer = text_of(make([EG], ["Complexity-1ch"], kind="coco"))
    assert (
        "names a category" in fewer
        and "classifies correctly" not in fewer
        and "ln 1024 = 6.93" in fewer
        and "D_alpha" not in fewer
        and "Random:" not in fewer
    )


def test_blocks_are_said_where_images_are_explained_together(make):
    results = make()
    (model,) = results.models
    together = replace(model, experiment=replace(model.experiment, together=8))
    assert "blocks of 8 (the last holds what is left, 9 at most)" in text_of(replace(results, models=(together,)))
    assert "blocks" not in text_of(results)


def test_photographs_without_labels_are_explained_as_they_are_seen(make):
    text = text_of(make(kind="photographs"))
    assert "the class that the model predicts" in text and "classifies correctly" not in text


def test_rows_that_are_not_described_have_no_note(make):
    results = make([EG, WG, f"{WG}(neutral=blur)", "Random"])
    text = text_of(results, rows=results.methods[:2])
    assert "blur" not in text and "uniform random numbers" not in text


def test_each_way_to_fit_weights_has_its_own_yardsticks(make):
    results = make([EG, WG, "BestSingle", "ShuffledWeights", f"{WG}(weighting=both, neutral=[corners, mean])"])
    first, second = notes.of_weights(results, results.methods)
    assert first.startswith(f"D_alpha of {WG}, BestSingle: deletion, corners") and first.endswith(": DeletionAUC.")
    assert "both, corners and mean" in second and second.endswith("yardstick: DeletionAUC, InsertionAUC.")
    assert "No judge here works in the same way" in notes.of_weights(make(judges=["OverlapAUC"]), results.methods)[0]


def test_draws_are_told_apart_where_a_judge_explains_again(make):
    (line,) = notes.of_draws(results := make([EG, "Random", "Stability-local"], ["MaxSensitivity"]), results.methods)
    assert line.startswith("Judges that explain again: MaxSensitivity. Flattered there")
    assert "(--fresh-draws draws anew): Stability-local." in line and f"stay the same): {EG}." in line
    assert "sampling error too: Random." in line
    (line,) = notes.of_draws(results := make([EG], ["MaxSensitivity"]), results.methods)
    assert "Flattered" not in line and "sampling error" not in line


def test_what_was_skipped_is_counted(make):
    results = make(unreadable_references=("a", "b"), equal_fitness=3)
    (model,) = results.models
    selection = replace(model.selection, unreadable=("unreadable: x",))
    results = replace(results, models=(replace(model, selection=selection),))
    text = text_of(results, asked=9)
    assert "net: 9 images were asked for, but only 4 count." in text
    assert "net: 1 unreadable photographs were skipped." in text
    assert "net: 2 unreadable photographs were skipped when references were drawn." in text
    assert "net: for 3 images all baselines have the same D_alpha" in text
    assert "asked for" not in text_of(results, asked=4) and "asked for" not in text_of(results)


@pytest.mark.parametrize("chunks, where", [(1, ""), (2, " in 1 of 2 chunks, for example of images 00.png, 01.png")])
def test_a_warning_is_a_note_of_the_rows_that_are_shown(chunks, where, make):
    given = (
        Warned((EG, "absent"), "the outputs are logits", ("00.png", "01.png"), False, 1),
        Warned(("absent",), "nobody", ("00.png",), False, 1),
        Warned(("Random",), "too rough", ("00.png",), True, 1),
    )
    text = text_of(make(warnings=given, chunks=chunks))
    assert f"net: {EG} warned{where}: the outputs are logits" in text and "nobody" not in text
    assert "net: Random warned when images were perturbed" in text


def test_scores_that_are_missing_have_a_line_for_each_row_and_reason(make, fail):
    results = fail(make(), "the judge gave nan", "method == 'Random'")
    one = f"method == '{WG}' and judge == 'DeletionAUC' and image == '01.png'"
    results = fail(results, "ValueError: f(x) is 0", one)
    left_out = {("Random", "ROAD"): "left out: too slow"}
    results = replace(results, models=(replace(results.models[0], left_out=left_out),))
    assert notes.missing(results.models) == [
        "net, Random, ROAD: left out: too slow.",
        f"net, {WG}, DeletionAUC: no score for 1 images (ValueError: f(x) is 0).",
        "net, Random, DeletionAUC, InsertionAUC: no score for 4 images (the judge gave nan).",
    ]
    assert notes.missing(make().models) == []
