"""The private parts of Ray that are used exist in the Ray that is installed, and come back as they were."""

import pytest

from pipeline.runtime.ray_patches import RayVersionError, patched, replacements, without_helpers


def test_the_installed_ray_has_every_private_member_that_is_used() -> None:
    from ray._private import state

    assert [name for owner, name, _ in replacements(local=True) if not hasattr(owner, name)] == []
    assert callable(state.actors)
    assert callable(state.state.get_cluster_config)


def test_members_are_replaced_while_ray_starts_and_put_back_even_after_an_error() -> None:
    def members() -> list[object]:
        return [getattr(owner, name) for owner, name, _ in replacements(local=True)]

    def start() -> None:
        during.extend(members())
        raise ConnectionError

    before: list[object] = members()
    during: list[object] = []
    with pytest.raises(ConnectionError), patched(local=True):
        start()
    assert not set(map(id, before)) & set(map(id, during))
    assert members() == before


def test_a_training_on_this_machine_starts_no_process_that_waits_for_a_dashboard() -> None:
    from ray.train.torch import TorchTrainer

    def names() -> set[str]:
        return {type(callback).__name__ for callback in trainer._create_default_callbacks()}

    trainer = TorchTrainer(print)
    helpers = {"PlacementGroupCleanerCallback", "DatasetsCallback"}
    before = names()
    assert helpers < before
    assert without_helpers(trainer) is trainer
    assert names() == before - helpers


def test_a_ray_that_cannot_be_kept_on_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    monkeypatch.delattr(services, "resolve_ip_for_localhost")
    with pytest.raises(RayVersionError, match="would listen on every interface"), patched(local=True):
        pass
    # a cluster is not started here
    with patched(local=False):
        pass
