"""Whether blocks in turn get to their edge of stability when they are trained for longer: the words and the table."""

import pandas as pd

from experiments.harness.markdown import markdown_table
from experiments.harness.parts import with_interval
from layerwise.comparison import intervals

ENDED = 0.05  # a loss that falls by less than this share in the last stretch is called settled
NEAR = (
    0.95  # the rate over the largest stable one from which single runs are counted as near the edge
)
SHOWN = ("whole", "steepest_block", "used")


def settled(rows: pd.DataFrame, every: int) -> pd.DataFrame:
    """One row a net: where long training in turn has come, of rows as `edge.scaled` makes them.

    `state` says how the rate used lies to the largest stable one at the end, and whether it still moved in the last `every`
    sweeps, by intervals over seeds. `fell` is the share of the loss that went in these sweeps.
    """
    found = []
    for net, own in rows.groupby("net", sort=False):
        end = own["sweeps"].max()
        by_seed = {
            at: own[own["sweeps"] == at].set_index("seed") for at in (every, end - every, end)
        }
        first, before, last = by_seed.values()
        fell = 1 - last["loss"].mean() / before["loss"].mean()
        row = {"net": net, "end": end, "loss": last["loss"].mean(), "fell": fell}
        row |= {f"{name} first": first[name].mean() for name in SHOWN}
        row |= {f"{name} last": last[name].mean() for name in SHOWN}
        _, low, high = intervals.mean(last["used"])
        _, slower, faster = intervals.mean(last["used"] - before["used"])
        if low > 1:
            state = "beyond"
        elif not high < 1:
            state = "at"
        else:
            state = "nearing" if slower > 0 else "leaving" if faster < 0 else "below"
        found.append(row | {"state": state})
    return pd.DataFrame(found)


WORDS = {
    "beyond": "beyond what the linear theory calls stable",
    "at": "at the edge, or not told from it",
    "nearing": "still below the edge and coming nearer",
    "leaving": "below the edge and moving away from it",
    "below": "below the edge and no longer shown to move",
}


def answer(rows: pd.DataFrame, every: int) -> list[str]:
    """Paragraphs and a table on long training, every so many sweeps."""
    nets = settled(rows, every)
    end = int(nets["end"].max())
    counts = nets["state"].value_counts()
    states = ", ".join(
        f"{counts[state]} of {len(nets)} nets {'is' if counts[state] == 1 else 'are'} {words}"
        for state, words in WORDS.items()
        if state in counts
    )
    each = "; ".join(
        f"on {net['net']} the rate used goes from {net['used first']:.2f} to {net['used last']:.2f} of the largest stable "
        f"one, the whole net's largest eigenvalue from {net['whole first']:.2f} to {net['whole last']:.2f} times 2 / rate "
        f"and that of the steepest block from {net['steepest_block first']:.2f} to {net['steepest_block last']:.2f} times "
        f"it ({WORDS[net['state']]})"
        for _, net in nets.iterrows()
    )
    runs = rows.loc[rows["sweeps"] == end, "used"]
    over = (nets["fell"] < ENDED).sum()
    fell = f"{nets['fell'].min():.0%} to {nets['fell'].max():.0%}"
    ended = (
        f"Training has not ended by then on {len(nets) - over} of {len(nets)} nets: in the last {every} sweeps the loss "
        f"still fell by {fell}, to {nets['loss'].min():.2g} to {nets['loss'].max():.2g}."
        if over < len(nets)
        else f"Training has ended by then: in the last {every} sweeps the loss fell by {fell}."
    )
    text = f"""Do blocks in turn only need longer to get to their edge? Trained on from {every} to {end} sweeps, {states}:
{each}. In {(runs >= NEAR).sum()} of {len(runs)} runs the rate used is at least {NEAR:g} of the largest stable one at the
end. {ended} {_in_all(nets)}"""
    own = rows[rows["sweeps"] % every == 0]
    header = ["net, cyclic", "sweeps", "training loss", "whole net, in 2 / rate",
              "steepest block, in 2 / rate", "rate / largest stable rate"]  # fmt: skip
    lines = [
        [net, str(sweeps), *(with_interval(cell[name]) for name in ("loss", *SHOWN))]
        for (net, sweeps), cell in own.groupby(["net", "sweeps"], sort=False)
    ]
    return [text, markdown_table(header, lines)]


def _in_all(nets):
    """What that says of the claim that blocks in turn stay away from their edge."""
    states = set(nets["state"])
    if states <= {"at", "beyond"}:
        return "So blocks in turn have an edge too, and longer training takes them there."
    if states <= {"leaving", "below"}:
        return "So longer training does not take blocks in turn to their edge."
    if "leaving" in states or "below" in states:
        return "So longer training takes blocks in turn towards their edge on some nets, and not on others."
    return "So blocks in turn come nearer to their edge for as long as they were trained; whether all reach it is open."
