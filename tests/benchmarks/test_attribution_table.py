import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import attribution_table, data, judges, methods, models, report
from benchmarks.methods import Method

QUICK = ["--images", "2", "--baselines", "2", "--n-steps", "2"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.resnet18_32().state_dict(), path)
    return str(path)


def failing(model, inputs, targets, device=None):
    raise RuntimeError("this one fails")


def make_facts(**changes):
    values = dict(
        data="noise",
        images=3,
        tried=4,
        robustness_images=2,
        seed=0,
        baselines=2,
        n_steps=2,
        radius=1.5,
        radius_chosen=True,
        fresh_draws=False,
        device="cpu",
        shape=(3, 32, 32),
    )
    return report.Facts(**{**values, **changes})


@pytest.fixture
def written(tmp_path, tiny_model, tiny_batch, references):
    """A table of a few methods and columns on the tiny model, one row of which fails."""
    available = methods.available(methods.MethodSettings(references, n_steps=2, radius=1.5))
    names = ["Saliency", "FeatureAblation", "ExpectedGradients", "WeightedGradients", "Stability-local", "Random"]
    rows = [*(available[name] for name in names), Method("Broken", "control", failing)]
    columns = judges.choose(judges.available(), ["Sparseness", "DeletionAUC", "MaxSensitivity", "Complexity"])
    # 3072 forwards a map are too many here.
    rows[1] = Method("FeatureAblation", "captum", available["Saliency"].explain, ablation=True)
    x, y = tiny_batch
    results = attribution_table.run(tiny_model, rows, columns, x, y, robustness_images=2, progress=False)
    selection = data.Selection(torch.from_numpy(x), torch.from_numpy(y), (11, 5, 8), 4)
    scores = report.long_scores(results.cells, selection, make_facts())
    text = report.write(tmp_path, make_facts(), rows, columns, results, scores, torch.rand(3, 3, 32, 32))
    return tmp_path, results, text


def test_all_files_are_written(written):
    folder, _, text = written
    assert sorted(text.files) == sorted(path.name for path in folder.iterdir())
    assert set(text.files) == {"table.md", "table.csv", "paired.csv", "scores.csv", "maps.png"}
    assert (folder / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_holds_mean_and_deviation_of_the_scores(written):
    folder, results, _ = written
    table = pd.read_csv(folder / "table.csv").set_index("method")
    scores = pd.read_csv(folder / "scores.csv")
    (cell,) = [c for c in results.cells if (c.method, c.judge) == ("Saliency", "DeletionAUC")]
    assert table.loc["Saliency", "DeletionAUC mean"] == pytest.approx(sum(cell.scores) / 3)
    assert table.loc["Saliency", "DeletionAUC std"] == pytest.approx(np.std(cell.scores, ddof=1))
    assert table.loc["Saliency", "DeletionAUC n"] == 3
    assert table.loc["Saliency", "MaxSensitivity n"] == 2
    assert table.loc["Saliency", "data"] == "noise"
    assert table.loc["Saliency", "images"] == 3
    of_cell = scores[(scores["method"] == "Saliency") & (scores["judge"] == "DeletionAUC")]
    assert of_cell["image"].tolist() == [11, 5, 8]
    assert of_cell["score"].tolist() == pytest.approx(cell.scores.tolist())
    markdown = (folder / "table.md").read_text(encoding="utf-8")
    assert f"{np.mean(cell.scores):.3f} ± {np.std(cell.scores, ddof=1):.3f}" in markdown


def test_a_failing_row_shows_its_reason_and_the_run_goes_on(written):
    folder, results, text = written
    assert {c.reason for c in results.cells if c.method == "Broken"} == {"RuntimeError: this one fails"}
    assert "Broken (DeletionAUC, MaxSensitivity, Sparseness-1ch" in text.text
    assert text.text.count("RuntimeError: this one fails") == 1
    assert pd.read_csv(folder / "table.csv").set_index("method").loc["Broken", "Sparseness-1ch n"] == 0


def test_ablation_rows_are_marked_as_left_out_of_the_robustness_columns(written):
    _, results, text = written
    reasons = {c.judge: c.reason for c in results.cells if c.method == "FeatureAblation"}
    assert reasons["MaxSensitivity"].startswith("left out: one forward per input element")
    assert reasons["Sparseness-1ch"] is None
    assert "FeatureAblation (MaxSensitivity): left out" in text.text


def test_the_notes_say_what_must_be_known(written):
    notes = written[2].text
    assert "n = 3 correctly classified test images (of 4 tried), robustness on 2, seed 0" in report.heading(
        make_facts()
    )
    assert "Local radius 1.5, a tenth of the median distance" in report.heading(make_facts())
    assert "Local radius 1.5 (normalised" in report.heading(make_facts(radius_chosen=False))
    assert "ln 1024 = 6.93 for -1ch and ln 3072 = 8.03 for -3ch" in notes
    assert "Flattered in these two columns" in notes
    assert "the two are not comparable" in notes
    assert "partly its own yardstick" in notes


def test_weighted_is_compared_with_expected_gradients_by_image(written):
    folder, results, text = written
    paired = pd.read_csv(folder / "paired.csv")
    scores = {c.method: c.scores for c in results.cells if c.judge == "DeletionAUC" and c.scores is not None}
    assert paired[["judge", "method", "reference", "n"]].values.tolist() == [
        ["DeletionAUC", "WeightedGradients", "ExpectedGradients", 3]
    ]
    change = scores["WeightedGradients"].mean() / scores["ExpectedGradients"].mean() - 1
    assert paired["relative_change"][0] == pytest.approx(change)
    assert f"{change:+.1%}" in text.text


def test_robustness_columns_can_be_left_out(tiny_model, tiny_batch, references):
    rows = methods.choose(methods.available(methods.MethodSettings(references)), ["Saliency"])
    columns = judges.choose(judges.available(), ["AvgSensitivity"])
    results = attribution_table.run(tiny_model, rows, columns, *tiny_batch, robustness_images=0, progress=False)
    assert results.cells[0].reason == "left out: --robustness-images 0"


def test_finished_rows_are_handed_over_one_by_one(tiny_model, tiny_batch, references):
    rows = methods.choose(methods.available(methods.MethodSettings(references)), ["Saliency", "Random"])
    columns = judges.choose(judges.available(), ["Sparseness"])
    counts = []
    attribution_table.run(
        tiny_model,
        rows,
        columns,
        *tiny_batch,
        robustness_images=0,
        progress=False,
        after_row=lambda results: counts.append(len(results.cells)),
    )
    assert counts == [2, 4]


def test_the_local_radius_is_a_tenth_of_the_median_distance():
    inputs, references = torch.zeros(2, 3, 4, 4), torch.ones(3, 3, 4, 4)
    assert attribution_table.local_radius(inputs, references) == pytest.approx(0.1 * 48**0.5, rel=1e-2)


def test_the_command_end_to_end(tmp_path, weights, capsys):
    command = [*QUICK, "--weights", weights, "--out", str(tmp_path / "new" / "folder")]
    command += ["--methods", "Saliency", "ExpectedGradients", "--metrics", "MaxSensitivity"]
    assert attribution_table.main([*command, "Sparseness"]) == 0
    printed = capsys.readouterr().out
    assert "digits (scikit-learn): n = 2 correctly classified test images" in printed
    assert "| ExpectedGradients" in printed
    first = pd.read_csv(tmp_path / "new" / "folder" / "scores.csv")
    assert attribution_table.main(command) == 0
    again = pd.read_csv(tmp_path / "new" / "folder" / "scores.csv")
    pd.testing.assert_frame_equal(first[first["judge"] == "MaxSensitivity"].reset_index(drop=True), again)


def test_nothing_computed_is_an_error(tmp_path, weights):
    command = [*QUICK, "--weights", weights, "--out", str(tmp_path), "--methods", "Saliency"]
    assert attribution_table.main([*command, "--metrics", "MaxSensitivity", "--robustness-images", "0"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "Salience"], "unknown method 'Salience'; known are"),
        (["--metrics", "AUC"], "unknown metric 'AUC'; known are"),
        (["--weights", "/no/such.pt"], "--weights /no/such.pt does not exist"),
        (["--data", "cifar10"], "--data cifar10 needs --root"),
        (["--data", "cifar10", "--root", "/no/such"], "--root /no/such is not a folder"),
        (["--device", "nonsense"], "--device nonsense can't be used here"),
        (["--out", "/dev/null/out"], "--out /dev/null/out can't be written to"),
        (["--baselines", "5000"], "--baselines must lie between 1 and 1198"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, capsys, arguments, message):
    command = ["--out", str(tmp_path), "--cache", str(tmp_path), *arguments]
    assert attribution_table.main(command) == 2
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "must be at least 1, got 0"),
        (["--robustness-images", "-1"], "must be at least 0, got -1"),
        (["--radius", "0"], "must be above 0, got 0.0"),
        (["--n-steps", "many"], "invalid integer value: 'many'"),
    ],
)
def test_numbers_that_cannot_be_meant(capsys, arguments, message):
    with pytest.raises(SystemExit):
        attribution_table.parse(arguments)
    assert message in capsys.readouterr().err
