"""Learning curves -> an image file."""

from pathlib import Path

from codegen.errors import UserError
from host_sim.training import TrainingResult


def plot_curves(result: TrainingResult, path: Path) -> None:
    """Training loss and test score, fixed point beside float; the suffix decides the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    numbers = [epoch.number for epoch in result.curve]
    for label, style, measures in (
        ("fixed point (the C)", "-", [epoch.fixed for epoch in result.curve]),
        ("float", "--", [epoch.float_ for epoch in result.curve]),
    ):
        losses.plot(numbers, [m.train_loss for m in measures], style, label=label)
        scores.plot(numbers, [m.score for m in measures], style, label=label)
    losses.set(xlabel="epoch", ylabel="training loss", yscale="log")
    scores.set(xlabel="epoch", ylabel=f"test {result.score_name}")
    losses.legend()
    figure.suptitle(f"{result.network}, {result.mode}")
    try:
        figure.savefig(path)
    except ValueError as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; take .png") from None
