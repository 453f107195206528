"""Templates of pages that are one file each and need no network."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def environment(package: str) -> Environment:
    """Templates of a package's own `templates/` folder, with those that all pages share (`slider.html.j2`)."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
