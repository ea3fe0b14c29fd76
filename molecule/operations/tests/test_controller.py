"""Is a lost controller restored from ops, with a passphrase and SSH only?"""

import pytest
from archives import REPOSITORIES, SERVER, Checkout, changes


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
