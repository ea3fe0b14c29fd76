"""Is a lost controller restored from ops, with a passphrase and SSH only?"""

import pytest
from archives import CLIENT, REPOSITORIES, SERVER, Checkout, back_up, changes, listed, run


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The controller that will be lost."""
    found = Checkout(tmp_path_factory.mktemp("controller") / "checkout")
    found.fill()
    return found


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout on another machine."""
    return Checkout(tmp_path_factory.mktemp("new") / "checkout")


def test_only_a_change_is_archived(controller: Checkout) -> None:
    """--check reports it, and stores nothing."""
    assert changes(controller.archive()) == 1
    assert changes(controller.archive()) == 0
    (controller.folder / "inventories/site/hosts.yml").write_text("all: {}\n")
    assert changes(controller.archive("--check")) == 1
    assert changes(controller.archive()) == 1
    owners = SERVER.check_output(f"find {REPOSITORIES}/controller -printf '%u %m\\n' | sort --unique").splitlines()
    assert {line.split()[0] for line in owners} == {"restic-rest-server"}
    assert not [line for line in owners if line.split()[1][-1] != "0"]


def test_wrong_passphrase_restores_nothing(new: Checkout) -> None:
    """The message has the reason."""
    refused = new.restore(key="wrong")
    assert refused.returncode != 0
    assert "wrong password" in refused.stdout
    assert new.files() == {}


def test_lost_controller_is_restored(controller: Checkout, new: Checkout) -> None:
    """The same files with the same modes; a second run changes nothing, and neither does its first archive."""
    done = new.restore()
    assert changes(done) == 1
    assert "site.yml --check" in " ".join(done.stdout.split())
    assert new.files() == controller.files()
    assert changes(new.restore()) == 0
    assert changes(new.archive()) == 0


def test_killed_run_is_completed_and_a_different_file_is_kept(new: Checkout) -> None:
    """A file that differs from the archive stops the run before it restores any."""
    vault = new.folder / "inventories/site/group_vars/all/vault.yml"
    complete = new.files()
    (new.folder / ".vault/site").unlink()
    (new.folder / "dist/tradefleet-1.0.tar.gz").rename(new.folder / "dist/tradefleet-1.0.tar.gz.restored")
    vault.write_text("another vault\n")
    refused = new.restore()
    assert refused.returncode != 0
    assert "These differ from the archive, move them away" in " ".join(refused.stdout.split())
    assert vault.read_text() == "another vault\n"
    assert not (new.folder / ".vault/site").exists()
    vault.unlink()
    assert changes(new.restore()) == 1
    assert new.files() == complete


@pytest.mark.thorough
def test_old_archives_are_removed_from_the_controller(controller: Checkout) -> None:
    """Passphrases of hosts stay on the controller. A host continues to archive."""
    restic = (
        "RESTIC_REST_USERNAME=operations2 RESTIC_REST_PASSWORD=$(cat /etc/tradefleet-archive/password)"
        " restic --cacert /etc/ssl/tradefleet/ca.crt --password-file /etc/tradefleet-archive/passphrase"
        " --repo rest:https://10.203.0.177:8433/operations2/ backup --host operations2 --tag redis"
    )
    CLIENT.check_output(f"{restic} --time '2020-01-01 00:00:00' /etc/hostname")
    back_up("20261130T020000Z")
    run(CLIENT, "store")
    assert changes(controller.archive(playbook="prune.yml")) == 1
    assert changes(controller.archive(playbook="prune.yml")) == 0
    assert "/etc/hostname" not in [each["path"] for each in listed(CLIENT, "redis")]
    back_up("20261130T030000Z")
    run(CLIENT, "store")
    run(CLIENT, "check")
