"""How the runs end that the default suite breaks: all in one program, for its start costs most."""

import pytest

from tests.faults import test_broken_backup, test_broken_export
from tests.faults.outcomes import outcomes_of


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("broken")


@pytest.fixture(scope="session")
def outcomes(root):
    backups = test_broken_backup.broken_and_resumed(root, test_broken_backup.FAULTS)
    return outcomes_of(backups | test_broken_export.broken(root, test_broken_export.FAULTS))
