"""What remains to be done by hand after pictures were forgotten: archives, models, DVC's caches and git's history."""

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.lineage.picture import Picture, Seen

_DRAWN = re.compile(r"synthetic \(seed \d+\)")
"""A source that nobody can take anything out of."""


def remaining(pictures: Sequence[Picture], seen: Sequence[Seen], project: Path = Path()) -> list[str]:
    """Say, in the order in which they are done, the steps that no command of facesr takes for somebody.

    Args:
        pictures: that were forgotten.
        seen: models, and whether they learned from them.
        project: root of the checkout.
    """
    places = sorted({f"{one.source} ({one.name})" for one in pictures if not _DRAWN.fullmatch(one.source)})
    steps = [f"The source still holds them: take them out of {'; '.join(places)}."] if places else []
    people = sorted({picture.person for picture in pictures if picture.person})
    if people:
        steps.append(f"Other pictures of the same person(s) may be here: {', '.join(people)}.")
    learned = [model.model for model in seen if model.seen]
    unknown = [model.model for model in seen if model.seen is None]
    if learned:
        steps.append(f"These learned from them, and do not unlearn: train again, withdraw {', '.join(learned)}.")
    if unknown:
        steps.append(f"Of these it is not known: ask where their data are, or withdraw them: {', '.join(unknown)}.")
    steps.append("dvc repro: ingest leaves out what is in data/forgotten.txt, and all after it is made again.")
    steps.append("git add data/forgotten.txt dvc.lock reports && git commit")
    steps.append("DVC's cache keeps what was: dvc gc --workspace drops all but this version (tags too).")
    steps.append("Remotes as well: dvc gc --workspace --cloud --remote NAME, for each that `dvc remote list` names.")
    steps.append("A tag whose data held them can then no longer be pulled: git tag --delete TAG, git push --delete.")
    steps.append("The same holds of branches and experiments: git branch -D NAME, dvc exp remove NAME.")
    steps.append("Pages and folders that compare, evaluate, view or adapt wrote elsewhere show them still.")
    steps.append("Other clones, published copies, enlarged archives and their manifests: wherever you passed them on.")
    if (project / ".dvc/cache").is_dir():
        steps.append(f"Until then they are still in {Path('.dvc/cache')}.")
    return steps
