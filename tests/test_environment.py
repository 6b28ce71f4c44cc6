"""The code revision that records and run directories name."""

import subprocess

import pytest

from keras_resnet import environment


@pytest.mark.parametrize("folder", [".", ".venv/lib/python3/site-packages"])
def test_the_code_revision_is_that_of_this_project_only(monkeypatch, tmp_path, folder):
    """An environment inside another project's checkout: that project's revision is not the code's."""
    module = tmp_path / folder / "keras_resnet" / "environment.py"
    module.parent.mkdir(parents=True)
    module.write_text("before")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    for command in (["init", "--quiet"], ["add", "--all"], [*identity, "commit", "--quiet", "--message", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    monkeypatch.setattr(environment, "__file__", str(module))
    revision, modified = (environment.environment()[key] for key in ("code_revision", "code_modified"))
    if folder != ".":
        assert (revision, modified) == (None, None)
        return
    assert head.stdout.startswith(revision)
    assert modified is False
    module.write_text("after")
    assert environment.environment()["code_modified"] is True


def test_without_git_a_record_names_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.environment()["code_revision"] is None
